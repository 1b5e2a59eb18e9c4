//! A repository, a server for it, and a user with a token.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use relight_keys::KeyFile;
use relight_repo::storage::local::LocalStorage;
use relight_repo::{OpenOptions, Repository, keyring};
use serde_json::Value;

use crate::failure::{Doing, Failure, Result};

/// Ticks a second in /proc on Linux, whatever the kernel itself counts in (proc(5), USER_HZ).
const TICKS: f64 = 100.0;
const TOKEN: &str = "bench@pbs!all";

/// What a server needs.
pub struct Lab {
    root: PathBuf,
    program: PathBuf,
}

/// A server that runs.
pub struct Server {
    child: Child,
    address: String,
    fingerprint: String,
    token_file: PathBuf,
}

impl Lab {
    /// Makes a repository under `root`, or at another location, and what a server for it needs.
    pub fn new(root: &Path, program: &Path, location: Option<String>) -> Result<Self> {
        fs::create_dir_all(root).doing(|| format!("create {}", root.display()))?;
        let lab = Self {
            root: root.to_owned(),
            program: program.to_owned(),
        };
        let location = location.unwrap_or_else(|| root.join("repository").display().to_string());
        let write =
            |name: &str, text: &str| fs::write(root.join(name), text).doing(|| format!("write {name}"));
        // A key file: deriving a key from a passphrase takes its third of a second whatever the repository holds.
        let own = relight_keys::KeyFile::generate(&mut relight_keys::SystemEntropy)
            .doing(|| "draw a key".to_owned())?;
        own.create(&root.join("key"))
            .doing(|| "write the key file".to_owned())?;
        write(
            "relight.toml",
            &format!(
                "[server]\nlisten = ['127.0.0.1:0']\nstate = 'state'\ncache = 'cache'\nnode = 'bench'\n\
                 [[repository]]\nname = 'main'\nlocation = '{location}'\nkey-file = 'key'\n"
            ),
        )?;
        lab.relight(&["init", &location])?;
        lab.relight(&["user", "add", "bench@pbs", "--no-password"])?;
        let made: Value = serde_json::from_str(&lab.relight(&["token", "add", TOKEN, "--json"])?)
            .doing(|| "read the token".to_owned())?;
        write("token", made["secret"].as_str().unwrap_or_default())?;
        for who in ["bench@pbs", TOKEN] {
            lab.relight(&["acl", "set", "/", "Admin", who])?;
        }
        Ok(lab)
    }

    /// Where everything of it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RELIGHT_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(&self.root)
            .env("RELIGHT_KEY_FILE", self.root.join("key"))
            .env("RELIGHT_CACHE_DIR", self.root.join("client-cache"))
            .env("RELIGHT_CONFIG", self.root.join("relight.toml"));
        command
    }

    fn relight(&self, arguments: &[&str]) -> Result<String> {
        let doing = || format!("relight {}", arguments.join(" "));
        let output = self
            .command(arguments)
            .stdin(Stdio::null())
            .output()
            .doing(doing)?;
        if !output.status.success() {
            return Err(Failure::new(format!(
                "{}: {}",
                doing(),
                String::from_utf8_lossy(&output.stderr)
            )));
        }
        String::from_utf8(output.stdout).doing(doing)
    }

    /// A command that talks to the server.
    pub fn client(&self, server: &Server, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command
            .args(["--server", &format!("https://{TOKEN}@{}/main", server.address)])
            .args(["--fingerprint", &server.fingerprint])
            .arg("--token-file")
            .arg(&server.token_file);
        command
    }

    /// Starts the server, and waits until it listens.
    pub fn start(&self) -> Result<Server> {
        let doing = || "start the server".to_owned();
        let log = File::create(self.root.join("server.log")).doing(doing)?;
        let mut child = self
            .command(&["serve", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .doing(doing)?;
        let out = child
            .stdout
            .take()
            .ok_or_else(|| Failure::new("the server has no output"))?;
        let mut text = String::new();
        let mut out = BufReader::new(out);
        while !text.ends_with("}\n") {
            if out.read_line(&mut text).doing(doing)? == 0 {
                let log = fs::read_to_string(self.root.join("server.log")).unwrap_or_default();
                return Err(Failure::new(format!("the server did not start: {log}")));
            }
        }
        let ready: Value = serde_json::from_str(&text).doing(doing)?;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Server {
            child,
            address: word(&ready["listening"][0]),
            fingerprint: word(&ready["fingerprint"]),
            token_file: self.root.join("token"),
        })
    }

    /// Makes the kernel forget the repository's content.
    pub fn drop_from_page_cache(&self) -> Result<()> {
        rustix::fs::sync();
        let mut folders = vec![self.root.join("repository")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)
                .doing(|| format!("list {}", folder.display()))?
                .flatten()
            {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(file) = File::open(&path) {
                    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
                        .doing(|| format!("drop {} from the page cache", path.display()))?;
                }
            }
        }
        Ok(())
    }

    /// The repository on the local disk.
    pub fn repository(&self) -> Result<Repository> {
        let doing = || "open the repository".to_owned();
        let storage = std::sync::Arc::new(LocalStorage::open(&self.root.join("repository")).doing(doing)?);
        let key = KeyFile::read(&self.root.join("key")).doing(doing)?;
        let opened = keyring::unlock(&*storage, &key).doing(doing)?;
        Repository::open(
            storage,
            opened.into_keys(),
            OpenOptions::new(&self.root.join("client-cache")),
        )
        .doing(doing)
    }
}

impl Server {
    /// Where it is and what opens it, as options of a part of this program.
    pub fn words(&self) -> [String; 3] {
        [
            format!("https://{TOKEN}@{}/main", self.address),
            self.fingerprint.clone(),
            self.token_file.display().to_string(),
        ]
    }

    /// Processor time it has used, with that of threads that have ended.
    pub fn processor(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(&path).doing(|| format!("read {path}"))?;
        // The name of the program, in parentheses, may hold blanks. See proc(5): utime and stime, in ticks.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let field = |at: usize| {
            after
                .split_ascii_whitespace()
                .nth(at)
                .and_then(|field| field.parse::<u64>().ok())
        };
        let ticks = field(11).zip(field(12)).map(|(user, system)| user + system);
        let ticks = ticks.ok_or_else(|| Failure::new(format!("{path} is not as expected")))?;
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
    }

    /// The largest resident set so far, in bytes.
    pub fn peak(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).doing(|| format!("read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        Ok(kib.ok_or_else(|| Failure::new(format!("{path} is not as expected")))? * 1024)
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<()> {
        let doing = || "stop the server".to_owned();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).doing(doing)?;
        let began = Instant::now();
        while self.child.try_wait().doing(doing)?.is_none() {
            if began.elapsed() > Duration::from_secs(90) {
                return Err(Failure::new("the server does not stop"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
