//! The server of a drill: in namespaces of its own, reached only by a socket in a folder that nobody else may enter.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use relight_repo::RepoError;
use relight_workloads::kind::Work;
use relight_workloads::rehearse::isolated::{Isolated, Running};

use crate::connect::Settings;
use crate::error::{PostgresError, Result};
use crate::launch::{self, Programs, Reached};
use crate::protocol::{Connection, Mode};

/// How often a server that starts is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long it may take to stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// User and group that the server of a drill runs as.
pub(crate) fn owner(user: Option<&str>) -> Result<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return Err(PostgresError::Refused(
            "a drill of PostgreSQL has to be run by root: only root can isolate its server and run it as another user".into(),
        ));
    }
    let wanted = user.unwrap_or("postgres");
    let found = crate::restore::user_and_group(wanted)?;
    found.ok_or_else(|| {
        PostgresError::Refused(format!(
            "there is no user {wanted} on this host to run the server of a drill as: name one with user in source"
        ))
    })
}

/// Gives the sandbox to the user. Its parents have to let the user through.
pub(crate) fn let_in(sandbox: &Path, (user, group): (u32, u32)) -> Result<()> {
    chown(sandbox, Some(user), Some(group))
        .map_err(PostgresError::io("give to the server's user", sandbox))?;
    fs::set_permissions(sandbox, fs::Permissions::from_mode(0o700))
        .map_err(PostgresError::io("close to others", sandbox))
}

/// Where the programs of a drill see the sandbox: their user may not get through the folders above it.
pub(crate) const INSIDE: &str = "/run/cluster";
/// Runs in the namespaces as root before the program does: $1 is the sandbox, $2 and $3 are user and group.
const ENTER: &str = "sandbox=$1 user=$2 group=$3; shift 3; mkdir /run/cluster && mount --bind \"$sandbox\" /run/cluster && \
                     cd /run/cluster || exit 125; exec setpriv --reuid=\"$user\" --regid=\"$group\" --clear-groups \
                     --no-new-privs -- \"$@\"";

/// A program of the cluster's version, in namespaces of its own, run as the cluster's user.
pub(crate) fn isolated(programs: &Programs, sandbox: &Path, program: &str) -> Isolated {
    let (user, group) = programs.owner().unwrap_or_default();
    Isolated::new("/bin/sh", sandbox)
        .args(["-c", ENTER, "relight-enter"])
        .arg(sandbox)
        .args([user.to_string(), group.to_string()])
        .arg(programs.path(program))
}

/// Has what leads to tablespaces lead to where programs in the sandbox see them.
pub(crate) fn link_tablespaces(data: &Path) -> Result<()> {
    let folder = data.join("pg_tblspc");
    for entry in fs::read_dir(&folder).map_err(PostgresError::io("look into", &folder))? {
        let path = entry.map_err(PostgresError::io("look into", &folder))?.path();
        if !path.is_symlink() {
            continue;
        }
        let inside = Path::new(INSIDE)
            .join("tablespaces")
            .join(path.file_name().unwrap_or_default());
        fs::remove_file(&path)
            .and_then(|()| std::os::unix::fs::symlink(inside, &path))
            .map_err(PostgresError::io("link", &path))?;
    }
    Ok(())
}

/// A server that runs in a sandbox. Dropping it kills it.
pub(crate) struct Server {
    running: Running,
    data: PathBuf,
    socket: PathBuf,
    /// A role that may do everything.
    pub superuser: String,
}

impl Server {
    /// Starts it and waits until it has recovered.
    pub fn start(
        programs: &Programs,
        sandbox: &Path,
        data: &Path,
        superusers: &[String],
        work: &Work,
    ) -> Result<Self> {
        let owner = programs.owner().unwrap_or_default();
        // The path of a socket has to be short.
        let socket = sandbox.join("s");
        fs::create_dir_all(&socket).map_err(PostgresError::io("make", &socket))?;
        let_in(&socket, owner)?;
        if socket.as_os_str().len() > 90 {
            return Err(PostgresError::Refused(format!(
                "the path of the sandbox {} is too long for a socket in it: choose a shorter one",
                sandbox.display()
            )));
        }
        let rules = socket.join("rules.conf");
        crate::restore::make_file(&rules, Some(owner))?;
        fs::write(&rules, "local all all trust\n").map_err(PostgresError::io("write", &rules))?;
        let seen = |path: &Path| Path::new(INSIDE).join(path.strip_prefix(sandbox).unwrap_or(path));
        let mut isolated = isolated(programs, sandbox, "postgres").arg("-D").arg(seen(data));
        for (key, value) in launch::sandbox_settings(&seen(&socket), &seen(&rules)) {
            isolated = isolated.arg("-c").arg(format!("{key}={value}"));
        }
        let running = isolated
            .start()
            .map_err(|error| PostgresError::Refused(error.to_string()))?;
        let mut server = Self {
            running,
            data: data.to_path_buf(),
            socket,
            superuser: String::new(),
        };
        server.wait(work)?;
        server.superuser = server.find_superuser(superusers)?;
        Ok(server)
    }

    fn wait(&mut self, work: &Work) -> Result<()> {
        loop {
            if let Some(Reached::InProduction) = launch::look(&self.data, None) {
                return Ok(());
            }
            let ended = self
                .running
                .ended()
                .map_err(|error| PostgresError::Refused(error.to_string()))?;
            if ended.is_some() {
                return Err(launch::stopped(&String::from_utf8_lossy(&self.running.output())));
            }
            if work.is_cancelled() {
                return Err(RepoError::Cancelled.into());
            }
            std::thread::sleep(TICK);
        }
    }

    /// Settings of a connection to it.
    pub fn settings(&self, user: &str, database: &str) -> Result<Settings> {
        launch::socket_settings(&self.socket, user, database)
    }

    /// A connection to a database.
    pub fn connect(&self, database: &str) -> Result<Connection> {
        Connection::open(&self.settings(&self.superuser, database)?, Mode::Queries)
    }

    /// The folder of its socket, as programs in the sandbox see it.
    pub fn socket_inside() -> PathBuf {
        Path::new(INSIDE).join("s")
    }

    /// The first of the superusers that were known when the backup was taken and that is still there.
    fn find_superuser(&self, known: &[String]) -> Result<String> {
        let mut last = None;
        for name in known.iter().map(String::as_str).chain(["postgres"]) {
            match Connection::open(&self.settings(name, "template1")?, Mode::Queries) {
                Ok(_) => return Ok(name.to_string()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| PostgresError::Refused("the restored cluster has no superuser".into())))
    }

    /// Stops it in good order.
    pub fn stop(mut self) -> Result<()> {
        // It is in namespaces of its own: only its user and its signals reach it.
        if let Some(process) = outer_process(&self.data) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::INT);
        }
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let ended = self
                .running
                .ended()
                .map_err(|error| PostgresError::Refused(error.to_string()))?;
            if ended.is_some() {
                return Ok(());
            }
            std::thread::sleep(TICK);
        }
        self.running
            .kill()
            .map_err(|error| PostgresError::Refused(error.to_string()))
    }
}

/// The process of the server on a data directory as this process sees it: the one whose working directory that is and whose
/// parent is not such a one.
fn outer_process(data: &Path) -> Option<rustix::process::Pid> {
    let place = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let data = place(data)?;
    let works_here = |process: &str| place(Path::new(&format!("/proc/{process}/cwd"))) == Some(data);
    let parent = |process: &str| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        Some(line.trim().to_string())
    };
    let found = fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number: i32 = name.parse().ok()?;
        (works_here(&name) && !works_here(&parent(&name)?)).then_some(number)
    });
    rustix::process::Pid::from_raw(found?)
}
