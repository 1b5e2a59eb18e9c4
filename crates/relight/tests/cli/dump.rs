//! `dump`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use super::lab::{Lab, noise};

/// Gives `input` to a program and takes what it prints.
fn pipe(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_file_an_image_and_a_stream_come_as_they_are() {
    let lab = Lab::saved();
    assert_eq!(lab.run(&["dump", "latest", "src/hello.txt"]).ok().out, b"hello\n");
    let original = lab.path("src/docs/big");
    assert_eq!(
        lab.run(&["dump", "latest", original.to_str().unwrap()]).ok().out,
        fs::read(&original).unwrap()
    );

    let mut disk = noise(3, 9_000_000);
    disk[4 << 20..8 << 20].fill(0);
    fs::write(lab.path("disk.raw"), &disk).unwrap();
    lab.run(&["backup", "--image", "disk.raw", "-w", "vm/1"]).ok();
    assert!(lab.run(&["dump", "vm/1@latest", "disk.img"]).ok().out == disk);
    let mut command = lab.command(&["backup", "--stdin", "database.sql", "-w", "pg/1"]);
    pipe(&mut command, b"select 1;\n");
    assert_eq!(
        lab.run(&["dump", "pg/1@latest", "database.sql"]).ok().out,
        b"select 1;\n"
    );
    let path = lab.path("disk.raw");
    assert!(
        lab.run(&["dump", "vm/1@latest", path.to_str().unwrap()]).ok().out == disk,
        "by its original path"
    );
}

#[test]
fn tar_keeps_everything_that_tar_can_read_back() {
    let lab = Lab::saved();
    fs::hard_link(lab.path("src/hello.txt"), lab.path("src/docs/again")).unwrap();
    fs::set_permissions(lab.path("src/hello.txt"), fs::Permissions::from_mode(0o4711)).unwrap();
    let long = "n".repeat(200);
    fs::write(lab.path(&format!("src/{long}")), "long").unwrap();
    lab.save();
    let tar = lab.run(&["dump", "latest", "src"]).ok().out;
    fs::create_dir(lab.path("out")).unwrap();
    pipe(Command::new("tar").arg("-xp").current_dir(lab.path("out")), &tar);
    let of = |name: &str| fs::symlink_metadata(lab.path(name)).unwrap();
    for name in ["hello.txt", "docs", "docs/big", "docs/deep/note", &long] {
        let (was, is) = (of(&format!("src/{name}")), of(&format!("out/src/{name}")));
        assert_eq!(
            (was.mode(), was.mtime(), was.mtime_nsec()),
            (is.mode(), is.mtime(), is.mtime_nsec()),
            "{name}"
        );
    }
    assert_eq!(
        fs::read(lab.path("out/src/docs/big")).unwrap(),
        fs::read(lab.path("src/docs/big")).unwrap()
    );
    assert_eq!(of("out/src/docs/again").ino(), of("out/src/hello.txt").ino());
    assert_eq!(
        fs::read_link(lab.path("out/src/link")).unwrap().to_str(),
        Some("hello.txt")
    );

    // A folder without the first name of a hard link holds the content itself.
    let part = lab.run(&["dump", "latest", "src/docs"]).ok().out;
    let first = pipe(Command::new("tar").args(["-xO", "docs/again"]), &part);
    assert!(first == b"hello\n" || fs::read(lab.path("out/src/docs/again")).unwrap() == b"hello\n");
    let names = String::from_utf8(pipe(Command::new("tar").arg("-t"), &part)).unwrap();
    assert_eq!(names.lines().next(), Some("docs/"));
}

#[test]
fn zip_holds_the_files_and_says_what_it_cannot() {
    let lab = Lab::saved();
    let status = Command::new("mkfifo").arg(lab.path("src/pipe")).status().unwrap();
    assert!(status.success());
    lab.save();
    let run = lab.run(&["dump", "latest", "src", "--format", "zip"]).code(3);
    assert!(run.err.contains("src/pipe"), "{}", run.err);
    // The directory at its end names every entry.
    assert_eq!(&run.out[..4], b"PK\x03\x04");
    let end = run.out.len() - 22;
    assert_eq!(&run.out[end..end + 4], b"PK\x05\x06");
    assert_eq!(u16::from_le_bytes([run.out[end + 10], run.out[end + 11]]), 7);
    if let Ok(python) = Command::new("python3").arg("--version").output()
        && python.status.success()
    {
        fs::write(lab.path("x.zip"), &run.out).unwrap();
        let check = "import zipfile,sys; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; \
                     sys.stdout.buffer.write(z.read('src/docs/big'))";
        let output = Command::new("python3")
            .args(["-c", check])
            .arg(lab.path("x.zip"))
            .output()
            .unwrap();
        assert!(output.stdout == fs::read(lab.path("src/docs/big")).unwrap());
    }
}

#[test]
fn what_has_no_content_and_files_that_exist_are_refused() {
    let lab = Lab::saved();
    lab.run(&["dump", "latest", "src/link"]).fails("symbolic link");
    lab.run(&["dump", "latest", "src/hello.txt", "-o", "new"]).ok();
    assert_eq!(fs::read(lab.path("new")).unwrap(), b"hello\n");
    fs::write(lab.path("there"), "mine").unwrap();
    lab.run(&["dump", "latest", "src/hello.txt", "-o", "there"])
        .fails("there");
    assert_eq!(fs::read(lab.path("there")).unwrap(), b"mine");
}
