//! The text of the plan as it is shown and as it is written: what is secret in it is neither shown nor lost.

use std::collections::BTreeMap;

/// A line without what may be secret in addresses: user and password, and for the web everything behind the host, where chat
/// services have their tokens.
pub(super) fn without_secrets(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        out.push_str(before);
        let end = behind
            .find(|c: char| c.is_whitespace() || "\"'".contains(c))
            .unwrap_or(behind.len());
        let (address, after) = behind.split_at(end);
        let (host, path) = address.split_at(address.find('/').unwrap_or(address.len()));
        out.push_str(host.rsplit_once('@').map_or(host, |(_, host)| host));
        let is_web = before.ends_with("https://") || before.ends_with("http://");
        match path {
            "" | "/" => out.push_str(path),
            _ if is_web => out.push_str("/…"),
            _ => out.push_str(path.split('?').next().unwrap_or_default()),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A text as it was edited, with what was not shown of the original put back.
///
/// # Errors
/// In words: a line with something secret is not there as it was shown, so that what is secret would be lost.
pub(super) fn with_secrets(original: &str, edited: &str) -> Result<String, String> {
    // As they were shown, in their order.
    let mut hidden: BTreeMap<String, Vec<(usize, &str)>> = BTreeMap::new();
    for (at, line) in original.lines().enumerate() {
        let shown = without_secrets(line);
        if shown != line {
            hidden.entry(shown).or_default().push((at + 1, line));
        }
    }
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    let mut out = String::with_capacity(edited.len() + 256);
    for (at, line) in edited.lines().enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        match hidden.get_key_value(line) {
            Some((shown, lines)) => {
                let count = taken.entry(shown).or_insert(0);
                let Some((_, whole)) = lines.get(*count) else {
                    return Err(format!(
                        "line {}: a line with an address whose secret part is not shown cannot be doubled here: edit the file on the \
                         server for that",
                        at + 1
                    ));
                };
                *count += 1;
                out.push_str(whole);
            }
            None if line.contains("://") && line.contains("/…") => {
                return Err(format!(
                    "line {}: the secret part of this address is not shown (…), and would be lost: leave the line as it was, or write the \
                     whole address",
                    at + 1
                ));
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    for (shown, lines) in &hidden {
        let there = taken.get(shown.as_str()).copied().unwrap_or(0);
        if let Some((at, _)) = lines.get(there) {
            return Err(format!(
                "line {at} of the file has an address whose secret part is not shown, and is changed or gone here: leave it as it was, or \
                 edit the file on the server for that"
            ));
        }
    }
    Ok(out)
}

/// What two texts have in common is found in squares up to this many lines.
const LARGEST: usize = 4_000_000;

/// The lines that went (`-`) and came (`+`), each with its number in the text that it is of, in the order of the text.
pub(super) fn difference<'t>(old: &'t str, new: &'t str) -> Vec<(char, usize, &'t str)> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let head = old.iter().zip(&new).take_while(same).count();
    let tail = old[head..]
        .iter()
        .rev()
        .zip(new[head..].iter().rev())
        .take_while(same)
        .count();
    let (a, b) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut found = Vec::new();
    let width = b.len() + 1;
    if a.len().saturating_add(1).saturating_mul(width) > LARGEST {
        found.extend(a.iter().enumerate().map(|(at, line)| ('-', head + at + 1, *line)));
        found.extend(b.iter().enumerate().map(|(at, line)| ('+', head + at + 1, *line)));
        return found;
    }
    // How much two ends have in common.
    let mut common = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = match a[i] == b[j] {
                true => common[(i + 1) * width + j + 1] + 1,
                false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            i += 1;
            j += 1;
        } else if j == b.len() || i < a.len() && common[(i + 1) * width + j] >= common[i * width + j + 1] {
            found.push(('-', head + i + 1, a[i]));
            i += 1;
        } else {
            found.push(('+', head + j + 1, b[j]));
            j += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        for (line, shown) in [
            (
                "to = 'https://hooks.example/T0/B0/secret' # x",
                "to = 'https://hooks.example/…' # x",
            ),
            (
                "to = \"slack+https://u:p@hooks.example/a\"",
                "to = \"slack+https://hooks.example/…\"",
            ),
            (
                "location = 's3://bucket/prefix?key=secret'",
                "location = 's3://bucket/prefix'",
            ),
            (
                "a = 'x://b' b = \"https://c/d\"",
                "a = 'x://b' b = \"https://c/…\"",
            ),
            ("to = 'mailto:ops@example.org'", "to = 'mailto:ops@example.org'"),
            ("://", "://"),
        ] {
            assert_eq!(without_secrets(line), shown);
        }
    }

    #[test]
    fn what_is_not_shown_is_not_lost() {
        let original = "a = 1\nto = 'https://h/one'\nto = 'https://h/two'\nlocation = 's3://u:p@b/x?k=s'\n";
        let shown: String = original
            .lines()
            .map(|line| without_secrets(line) + "\n")
            .collect();
        assert!(!shown.contains("one") && !shown.contains("u:p"));
        assert_eq!(with_secrets(original, &shown).unwrap(), original);
        let more = shown.replace("a = 1", "a = 2\nb = 3");
        assert_eq!(
            with_secrets(original, &more).unwrap(),
            original.replace("a = 1", "a = 2\nb = 3")
        );
        for (edited, line) in [
            (
                shown.replace("location = 's3://b/x'", "location = 's3://b/y'"),
                "line 4",
            ),
            (shown.replacen("to = 'https://h/…'\n", "", 1), "line 3"),
            (shown.clone() + "to = 'https://h/…'\n", "line 5"),
            (
                shown.replacen("to = 'https://h/…'", "to = 'https://i/…'", 1),
                "line 2",
            ),
        ] {
            let why = with_secrets(original, &edited).unwrap_err();
            assert!(why.starts_with(line), "{why}");
        }
    }

    #[test]
    fn a_difference_names_what_went_and_came() {
        let found = difference("a\nb\nc\nd\n", "a\nx\nc\nd\ne\n");
        assert_eq!(found, [('-', 2, "b"), ('+', 2, "x"), ('+', 5, "e")]);
        assert!(difference("a\n", "a\n").is_empty());
        assert_eq!(difference("", "a").len(), 1);
    }
}
