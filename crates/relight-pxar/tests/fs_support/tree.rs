//! Trees with everything in them that makes backups hard.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use relight_pxar::fs::apply::{Target, apply, apply_time, seal};
use relight_pxar::fs::dir_chain::{DirChain, open_root};
use relight_pxar::fs::metadata::MetadataProblem;
use relight_pxar::fs::stat::FileStat;
use relight_pxar::metadata::{Acl, DefaultAcl, FileTime, Metadata};
use rustix::fs::{
    AtFlags, CWD, FileType, IFlags, Mode, OFlags, XattrFlags, ioctl_getflags, ioctl_setflags, lsetxattr,
    makedev, mkdirat, mknodat, openat, setxattr, unlinkat,
};

fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Bytes that do not compress and do not repeat.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn node(path: &Path, file_type: FileType, device: u64) {
    mknodat(CWD, path, file_type, Mode::RUSR | Mode::WUSR | Mode::RGRP, device).unwrap();
}

pub fn set_time(path: &Path, secs: i64, nanos: u32) {
    let handle = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
    let mut problems = Vec::new();
    apply_time(
        Target::Handle(handle.as_fd()),
        FileTime { secs, nanos },
        &mut problems,
    );
    assert!(problems.is_empty(), "{problems:?}");
}

pub fn time_of(path: &Path) -> FileTime {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    FileStat::at(CWD, &path).unwrap().mtime
}

/// Sets the whole metadata of a file or directory; returns what could not be.
pub fn set_metadata(path: &Path, metadata: &Metadata) -> Vec<MetadataProblem> {
    let file = File::open(path).unwrap();
    let mut problems = Vec::new();
    apply(Target::Open(file.as_fd()), metadata, &mut problems);
    seal(file.as_fd(), metadata, &mut problems);
    problems
}

/// Makes a chain of directories `depth` deep, deeper than any path can name, with a file in each hundredth.
pub fn deep(root: &Path, depth: usize) {
    let mut chain: DirChain<OwnedFd> = DirChain::new(open_root(root).unwrap()).unwrap();
    for level in 0..depth {
        let dir = chain.current().unwrap().clone();
        if level % 100 == 99 {
            let flags = OFlags::CREATE | OFlags::WRONLY;
            let file = openat(&dir, c"a file", flags, Mode::RUSR | Mode::WUSR).unwrap();
            File::from(file)
                .write_all(format!("level {level}").as_bytes())
                .unwrap();
        }
        mkdirat(&dir, c"deep", Mode::RWXU).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = openat(&dir, c"deep", flags, Mode::empty()).unwrap();
        let identity = FileStat::of(&fd).unwrap().identity();
        chain.push(c"deep", fd, identity);
    }
}

/// Removes what [`deep`] made: the usual tools do, but slowly.
pub fn remove_deep(root: &Path) {
    let root = open_root(root).unwrap();
    while let Ok(next) = openat(&root, c"deep", OFlags::DIRECTORY, Mode::empty()) {
        let _ = unlinkat(&next, c"a file", AtFlags::empty());
        // Lifts the second up beside the first, and so on: no path is ever long.
        match rustix::fs::renameat(&next, c"deep", &root, c"deeper") {
            Ok(()) => {
                unlinkat(&root, c"deep", AtFlags::REMOVEDIR).unwrap();
                rustix::fs::renameat(&root, c"deeper", &root, c"deep").unwrap();
            }
            Err(_) => unlinkat(&root, c"deep", AtFlags::REMOVEDIR).unwrap(),
        }
    }
}

/// Sets inode flags besides those it has.
pub fn add_flags(path: &Path, flags: IFlags) {
    let file = File::open(path).unwrap();
    let present = ioctl_getflags(&file).unwrap();
    ioctl_setflags(&file, present | flags).unwrap();
}

/// Takes the flags off that hinder removal.
pub fn unseal(root: &Path) {
    for path in ["flags/immutable", "flags/append", "flags"] {
        if let Ok(file) = File::open(root.join(path)) {
            let flags = ioctl_getflags(&file).unwrap();
            let _ = ioctl_setflags(&file, flags - IFlags::IMMUTABLE - IFlags::APPEND);
        }
    }
}

/// Makes a tree with every kind of object, all metadata, and awkward names. Needs privileges for some of it; without,
/// these are left out.
pub fn adversarial(root: &Path) {
    let privileged = super::is_root();
    let write = |path: &str, content: &[u8]| fs::write(root.join(path), content).unwrap();

    fs::create_dir_all(root.join("files/empty directory")).unwrap();
    write("files/empty", b"");
    write("files/one byte", b"x");
    write("files/a page", &noise(1, 4096));
    write("files/text", "lines\n".repeat(1000).as_bytes());
    write("files/large", &noise(2, 3_000_001));
    write("files/zeros", &[0; 300_000]);
    write("files/newline\nin name", b"1");
    write("files/ leading space", b"2");
    write("files/-rf", b"3");
    write("files/back\\slash", b"4");
    fs::write(root.join("files").join(name(b"not \xff\xfe utf-8")), b"5").unwrap();
    fs::write(root.join("files").join(name(&[b'n'; 255])), b"6").unwrap();
    fs::write(root.join("files").join("ü".repeat(127)), b"7").unwrap();
    fs::create_dir(root.join("files").join(name(&[0xe4; 255]))).unwrap();

    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(10_000_000_000).unwrap();
    sparse.write_all_at(b"in the middle", 5_000_000_001).unwrap();
    sparse.write_all_at(b"at the end", 9_999_999_990).unwrap();
    File::create(root.join("only a hole"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();

    fs::create_dir_all(root.join("links/a")).unwrap();
    fs::create_dir_all(root.join("links/z")).unwrap();
    write("links/m", b"linked");
    fs::hard_link(root.join("links/m"), root.join("links/a/first in order")).unwrap();
    fs::hard_link(root.join("links/m"), root.join("links/z/last")).unwrap();
    fs::hard_link(root.join("links/m"), root.join("links/beside")).unwrap();
    write("links/pair 1", &noise(3, 400_000));
    fs::hard_link(root.join("links/pair 1"), root.join("links/z/pair 2")).unwrap();
    symlink("m", root.join("links/symlink")).unwrap();
    symlink("/nowhere/at all", root.join("links/dangling")).unwrap();
    symlink("..", root.join("links/up")).unwrap();
    symlink(name(&[b'l'; 4000]), root.join("links/long")).unwrap();
    symlink(name(b"\xfe\xff"), root.join("links/not utf-8")).unwrap();

    fs::create_dir(root.join("special")).unwrap();
    node(&root.join("special/fifo"), FileType::Fifo, 0);
    node(&root.join("special/socket"), FileType::Socket, 0);
    if privileged {
        node(
            &root.join("special/null"),
            FileType::CharacterDevice,
            makedev(1, 3),
        );
        node(
            &root.join("special/block"),
            FileType::BlockDevice,
            makedev(259, 1_000_000),
        );
    }

    fs::create_dir(root.join("modes")).unwrap();
    for mode in [0o0, 0o400, 0o644, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o6711] {
        let path = root.join(format!("modes/{mode:04o}"));
        fs::write(&path, b"").unwrap();
        if privileged {
            std::os::unix::fs::chown(&path, Some(1000 + mode), Some(2_000_000_000)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(root.join("modes/sticky")).unwrap();
    fs::set_permissions(root.join("modes/sticky"), fs::Permissions::from_mode(0o3777)).unwrap();

    fs::create_dir(root.join("times")).unwrap();
    for (file, secs, nanos) in [
        ("nanoseconds", 1_600_000_000, 123_456_789),
        ("almost", 1_600_000_000, 999_999_999),
        ("1969", -1, 500_000_000),
        ("1902", -2_145_916_800, 1),
        ("2100", 4_102_444_800, 2),
        ("2400", 13_569_465_600, 3),
    ] {
        let path = root.join("times").join(file);
        fs::write(&path, file).unwrap();
        set_time(&path, secs, nanos);
    }
    symlink("x", root.join("times/symlink")).unwrap();
    set_time(&root.join("times/symlink"), 1_000_000_000, 42);

    fs::create_dir(root.join("xattrs")).unwrap();
    write("xattrs/many", b"");
    for index in 0..20 {
        setxattr(
            root.join("xattrs/many"),
            format!("user.number {index}"),
            format!("value {index}").as_bytes(),
            XattrFlags::empty(),
        )
        .unwrap();
    }
    write("xattrs/binary", b"");
    setxattr(
        root.join("xattrs/binary"),
        "user.binary",
        b"\0\xff\0",
        XattrFlags::empty(),
    )
    .unwrap();
    setxattr(root.join("xattrs/binary"), "user.empty", b"", XattrFlags::empty()).unwrap();
    setxattr(
        root.join("xattrs/binary"),
        "user.large",
        &noise(4, 3000),
        XattrFlags::empty(),
    )
    .unwrap();
    setxattr(
        root.join("xattrs"),
        "user.of a directory",
        b"1",
        XattrFlags::empty(),
    )
    .unwrap();
    if privileged {
        symlink("x", root.join("xattrs/symlink")).unwrap();
        lsetxattr(
            root.join("xattrs/symlink"),
            "trusted.on a link",
            b"1",
            XattrFlags::empty(),
        )
        .unwrap();
        node(&root.join("xattrs/fifo"), FileType::Fifo, 0);
        lsetxattr(
            root.join("xattrs/fifo"),
            "trusted.on a pipe",
            b"2",
            XattrFlags::empty(),
        )
        .unwrap();
        // cap_net_raw+ep, revision 2 (linux/capability.h).
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        write("xattrs/capable", b"");
        setxattr(
            root.join("xattrs/capable"),
            "security.capability",
            &capability,
            XattrFlags::empty(),
        )
        .unwrap();
        write("xattrs/capable and setuid", b"");
        let both = Metadata {
            mode: 0o104_755,
            uid: 1234,
            gid: 1234,
            fcaps: Some(capability.to_vec()),
            ..Metadata::default()
        };
        assert!(set_metadata(&root.join("xattrs/capable and setuid"), &both).is_empty());
    }

    fs::create_dir(root.join("acls")).unwrap();
    write("acls/named", b"acl");
    let acl = Acl {
        users: vec![(1, 7), (4242, 0)],
        groups: vec![(5, 5)],
        group_obj: Some(4),
        default: None,
    };
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let plain = Metadata {
        uid,
        gid,
        ..Metadata::default()
    };
    let file = Metadata {
        mode: 0o100_660,
        acl: acl.clone(),
        ..plain.clone()
    };
    assert!(set_metadata(&root.join("acls/named"), &file).is_empty());
    write("acls/only a mask", b"acl");
    let masked = Metadata {
        mode: 0o100_640,
        acl: Acl {
            group_obj: Some(7),
            ..Acl::default()
        },
        ..plain.clone()
    };
    assert!(set_metadata(&root.join("acls/only a mask"), &masked).is_empty());
    fs::create_dir(root.join("acls/default")).unwrap();
    let default = DefaultAcl {
        user_obj: Some(7),
        group_obj: Some(5),
        other: Some(0),
        mask: Some(7),
        users: vec![(77, 6)],
        groups: vec![],
    };
    let directory = Metadata {
        mode: 0o040_770,
        acl: Acl {
            default: Some(default),
            ..acl
        },
        ..plain
    };
    assert!(set_metadata(&root.join("acls/default"), &directory).is_empty());
    write("acls/default/inherited", b"");
    fs::create_dir(root.join("acls/default/inherited directory")).unwrap();
    write("acls/default/not inherited", b"");
    let _ = rustix::fs::removexattr(root.join("acls/default/not inherited"), "system.posix_acl_access");

    fs::create_dir(root.join("flags")).unwrap();
    write("flags/nodump", b"");
    add_flags(&root.join("flags/nodump"), IFlags::NODUMP | IFlags::NOATIME);
    if privileged {
        write("flags/immutable", b"immutable");
        fs::hard_link(root.join("flags/immutable"), root.join("links/to immutable")).unwrap();
        add_flags(&root.join("flags/immutable"), IFlags::IMMUTABLE);
        write("flags/append", b"append");
        add_flags(&root.join("flags/append"), IFlags::APPEND);
    }
    fs::create_dir(root.join("flags/directory")).unwrap();
    add_flags(&root.join("flags/directory"), IFlags::DIRSYNC);

    // Directories last: what was made in them has moved their times.
    set_time(&root.join("files"), 1_500_000_000, 7);
    set_time(&root.join("links/z"), 1_500_000_001, 8);
    if privileged {
        add_flags(&root.join("flags"), IFlags::IMMUTABLE);
    }
}
