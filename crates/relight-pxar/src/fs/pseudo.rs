//! File systems that the kernel makes up: nothing in them can be restored.

use std::os::fd::BorrowedFd;

use rustix::fs::fstatfs;

/// Magic numbers (`linux/magic.h`), with the name each goes by.
const MAGICS: [(u32, &str); 19] = [
    (0x0000_9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x0000_1cd1, "devpts"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x6165_676c, "pstore"),
    (0xcafe_4a11, "bpf"),
    (0x6265_6570, "configfs"),
    (0x6573_5543, "fusectl"),
    (0x1980_0202, "mqueue"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x6759_6969, "rpc_pipefs"),
    (0xde5e_81e4, "efivarfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x6e73_6673, "nsfs"),
    (0x0000_0187, "autofs"),
];

/// Whether an open object lies on such a file system. Where the kernel does not say, it does not.
pub fn is_pseudo(fd: BorrowedFd<'_>) -> bool {
    fstatfs(fd).is_ok_and(|found| {
        // The type of the field differs between machines; magic numbers have 32 bits.
        let magic = found.f_type as u32;
        MAGICS.iter().any(|(known, _)| *known == magic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn proc_is_and_a_disk_is_not() {
        assert!(is_pseudo(std::fs::File::open("/proc").unwrap().as_fd()));
        assert!(!is_pseudo(
            std::fs::File::open(env!("CARGO_MANIFEST_DIR")).unwrap().as_fd()
        ));
    }
}
