//! Which paths of an archive are wanted.

/// Paths chosen by a user; each stands for itself and all that lies below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Sorted by components, none below another. None at all means everything.
    paths: Vec<Vec<u8>>,
    all: bool,
}

/// How a path stands to a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is wanted.
    Inside,
    /// Something below it may be wanted.
    Above,
    /// Neither it nor anything below it.
    Outside,
}

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self {
            paths: Vec::new(),
            all: true,
        }
    }

    /// Some paths from the root of the archive. Slashes at both ends, doubled ones and components `.` do not matter; an
    /// empty path or `/` means everything.
    pub fn paths<P: AsRef<[u8]>>(paths: impl IntoIterator<Item = P>) -> Self {
        let mut normal: Vec<Vec<u8>> = paths.into_iter().map(|path| normalise(path.as_ref())).collect();
        if normal.iter().any(Vec::is_empty) {
            return Self::all();
        }
        normal.sort_unstable_by(|a, b| components(a).cmp(components(b)));
        normal.dedup_by(|next, previous| is_within(next, previous));
        Self {
            paths: normal,
            all: false,
        }
    }

    /// Whether everything is wanted.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// How a path stands to the selection.
    pub fn standing(&self, path: &[u8]) -> Standing {
        if self.all || self.paths.iter().any(|wanted| is_within(path, wanted)) {
            Standing::Inside
        } else if self.paths.iter().any(|wanted| is_within(wanted, path)) {
            Standing::Above
        } else {
            Standing::Outside
        }
    }

    /// The paths, without those below others.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.paths.iter().map(Vec::as_slice)
    }

    /// Names in the directory `path` that are wanted or above something wanted, sorted, each once.
    pub(super) fn names_in(&self, path: &[u8]) -> Vec<&[u8]> {
        let mut names: Vec<&[u8]> = self
            .iter()
            .filter(|wanted| is_within(wanted, path) && wanted.len() > path.len())
            .filter_map(|wanted| {
                let rest = if path.is_empty() {
                    wanted
                } else {
                    &wanted[path.len() + 1..]
                };
                rest.split(|&byte| byte == b'/').next()
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

fn normalise(path: &[u8]) -> Vec<u8> {
    components(path).collect::<Vec<_>>().join(&b'/')
}

/// Whether `path` is `outer` or lies below it.
fn is_within(path: &[u8], outer: &[u8]) -> bool {
    match path.strip_prefix(outer) {
        Some(rest) => rest.is_empty() || outer.is_empty() || rest.first() == Some(&b'/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_inside_above_or_outside() {
        let selection = Selection::paths(["/etc/ssh/", "./etc//ssh/sshd_config", "home/a-b", "home/a"]);
        assert_eq!(
            selection.iter().collect::<Vec<_>>(),
            [b"etc/ssh".as_slice(), b"home/a", b"home/a-b"]
        );
        assert_eq!(selection.standing(b""), Standing::Above);
        assert_eq!(selection.standing(b"etc"), Standing::Above);
        assert_eq!(selection.standing(b"etc/ssh"), Standing::Inside);
        assert_eq!(selection.standing(b"etc/ssh/moduli"), Standing::Inside);
        assert_eq!(selection.standing(b"etc/ssh2"), Standing::Outside);
        assert_eq!(selection.standing(b"home/a-b/c"), Standing::Inside);
        assert_eq!(selection.names_in(b""), [b"etc".as_slice(), b"home"]);
        assert_eq!(selection.names_in(b"home"), [b"a".as_slice(), b"a-b"]);
    }

    #[test]
    fn the_root_means_everything() {
        assert!(Selection::paths(["a", "/"]).is_all());
        assert_eq!(Selection::paths([""]).standing(b"x"), Standing::Inside);
        assert!(!Selection::paths(Vec::<Vec<u8>>::new()).is_all());
    }
}
