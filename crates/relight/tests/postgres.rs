//! `relight postgres` with a real server: attached, archived, backed up, and brought back to moments between.

#[path = "../../relight-postgres/tests/lab/mod.rs"]
mod lab;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use lab::Server;

/// A repository that the servers' user works with, and the program.
struct Site {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Site {
    fn new() -> Self {
        let folder = lab::folder();
        // The user may not get at the folder of the build.
        let program = folder.path().join("relight");
        fs::copy(env!("CARGO_BIN_EXE_relight"), &program).unwrap();
        let passphrase = folder.path().join("passphrase");
        fs::write(&passphrase, "correct horse battery staple\n").unwrap();
        let (uid, gid) = lab::runner();
        std::os::unix::fs::chown(&passphrase, Some(uid), Some(gid)).unwrap();
        let site = Self { folder, program };
        site.good(&["init", &site.repository()]);
        site
    }

    fn repository(&self) -> String {
        self.folder.path().join("repository").display().to_string()
    }

    /// Words of a command that others run.
    fn words(&self) -> String {
        format!(
            "{} --quiet --repo {} --password-file {}/passphrase --cache-dir {}/cache",
            self.program.display(),
            self.repository(),
            self.folder.path().display(),
            self.folder.path().display()
        )
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("sh");
        let (uid, gid) = lab::runner();
        if rustix::process::geteuid().is_root() {
            command.uid(uid).gid(gid);
        }
        let config = self.folder.path().join("relight.toml");
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("RELIGHT_CONFIG", config)
            .current_dir("/")
            .args(["-c", &format!("{} \"$@\"", self.words()), "sh"])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, error) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert!(output.status.success(), "{arguments:?}: {out}{error}");
        out
    }

    /// It fails with this exit code: what it says.
    fn bad(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    }
}

#[test]
fn from_attaching_to_a_moment_between_two_backups() {
    let site = Site::new();
    let server = Server::start(17, "fsync = on");
    server.sql("CREATE ROLE app LOGIN; CREATE ROLE relight LOGIN REPLICATION; GRANT pg_monitor TO relight");
    let url = |user: &str| {
        format!(
            "host={} port={} user={user} dbname=postgres",
            server.socket().display(),
            lab::PORT
        )
    };

    // A role that may not replicate is told what to do.
    let words = site.bad(4, &["postgres", "attach", "main", "--url", &url("app")]);
    assert!(words.contains("ALTER ROLE \"app\" REPLICATION"), "{words}");
    fs::write(
        site.folder.path().join("relight.toml"),
        "[[policy]]\nname = \"gold\"\nrpo = \"6h\"\nschedule = \"daily\"\nkeep = { daily = 7 }\n",
    )
    .unwrap();
    let words = site.good(&["postgres", "attach", "main", "--url", &url("relight")]);
    assert!(
        words.contains("It can be protected") && words.contains("[[workload]]"),
        "{words}"
    );
    let secret = site.bad(
        1,
        &[
            "postgres",
            "attach",
            "main",
            "--url",
            "postgresql://u:hunter2@h/d",
        ],
    );
    assert!(
        secret.contains(".pgpass") && !secret.contains("hunter2"),
        "{secret}"
    );

    // Nothing archives yet.
    let superuser = url("postgres");
    let words = site.bad(
        4,
        &[
            "postgres",
            "check",
            "main",
            "--url",
            &superuser,
            "--timeout",
            "1s",
        ],
    );
    assert!(words.contains("did not arrive"), "{words}");
    server.configure(&format!(
        "archive_mode = on\narchive_command = '{} wal-push %p --workload main'",
        site.words()
    ));
    server.down("fast");
    server.up();
    let words = site.good(&["postgres", "check", "main", "--url", &superuser]);
    assert!(words.contains("the log arrives"), "{words}");

    server.sql("CREATE TABLE t (id int)");
    let words = site.good(&["postgres", "backup", "main", "--url", &url("relight")]);
    assert!(words.contains("consistent at"), "{words}");
    server.sql("INSERT INTO t SELECT generate_series(1, 100)");
    let time = server
        .sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    std::thread::sleep(std::time::Duration::from_millis(20));
    server.sql("DELETE FROM t");
    server.sql("SELECT pg_create_restore_point('emptied')");
    site.good(&["postgres", "check", "main", "--url", &superuser]);

    // The server fetches the log by itself.
    let folder = lab::folder();
    let data = folder.path().join("data").display().to_string();
    site.good(&[
        "postgres",
        "restore",
        "main",
        "--target",
        &data,
        "--to-time",
        &time,
    ]);
    let restored = Server::of(17, folder, data.into());
    restored.up();
    assert_eq!(restored.sql("SELECT count(*) FROM t"), "100");
    drop(restored);

    // Or everything is put there, the server is started and waited for.
    let folder = lab::folder();
    let data = folder.path().join("data").display().to_string();
    let bin = lab::programs(17).display().to_string();
    fs::write(folder.path().join("x"), "").unwrap();
    let start = [
        "postgres", "restore", "main", "--target", &data, "--start", "--bin", &bin,
    ];
    let words = site.good(&[&start[..], &["--to-name", "emptied"]].concat());
    assert!(words.contains("the server is in production"), "{words}");
    let restored = Server::of(17, folder, data.into());
    restored.down("fast");
    restored.up();
    assert_eq!(restored.sql("SELECT count(*) FROM t"), "0");
    drop(restored);

    // One table out of it.
    let folder = lab::folder();
    let file = folder.path().join("t.sql").display().to_string();
    let sandbox = folder.path().display().to_string();
    let dump = [
        "postgres",
        "dump",
        "main",
        "--sandbox",
        &sandbox,
        "--bin",
        &bin,
        "--output",
        &file,
    ];
    site.good(
        &[
            &dump[..],
            &["-d", "postgres", "-t", "public.t", "--plain", "--to-time", &time],
        ]
        .concat(),
    );
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("CREATE TABLE public.t") && text.contains("\n100\n"),
        "{text}"
    );
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing else is left"
    );
    let words = site.bad(1, &[&dump[..], &["--globals"]].concat());
    assert!(words.contains("exists"), "{words}");

    // What cannot be reached is refused with what can, and nothing is made.
    let folder = lab::folder();
    let data = folder.path().join("data").display().to_string();
    let start = ["postgres", "restore", "main", "--target", &data];
    for goal in [
        &["--to-time", "2020-01-01T00:00:00Z"][..],
        &["--to-time", "2050-01-01T00:00:00Z"],
        &["--to-name", "never"],
        &["--to-lsn", "FFFF/0"],
    ] {
        let words = site.bad(1, &[&start[..], goal].concat());
        assert!(words.contains("What can be brought back is from"), "{words}");
    }
    assert!(!folder.path().join("data").exists());

    // Another cluster under the same name.
    let other = Server::start(17, "");
    let url = other.url();
    let words = site.bad(1, &["postgres", "backup", "main", "--url", &url]);
    assert!(words.contains("give it a name of its own"), "{words}");
}
