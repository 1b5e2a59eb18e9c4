//! The network block device as the programs see it that operators use.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use common::nbd::Serving;
use common::tree::noise;
use common::{Lab, attempt, require, run};
use relight_mount::Image;
use relight_mount::nbd::Address;

/// An image with holes of all sizes and an end that fits no block.
fn image(lab: &Lab, size: u64) -> PathBuf {
    let path = lab.path("disk");
    let file = File::create(&path).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(&noise(1, 5_000_000), 0).unwrap();
    file.write_all_at(&noise(2, 30_000_000), 20 << 20).unwrap();
    file.write_all_at(&noise(3, 1000), 100 << 20).unwrap();
    file.write_all_at(&noise(4, 5000), size - 5000).unwrap();
    path
}

fn serve(lab: &Lab, size: u64, address: &Address) -> (PathBuf, Serving) {
    let disk = image(lab, size);
    let snapshot = lab.save_images("vm/100", &[("disk", &disk)]);
    let image = Image::open(lab.open(), &snapshot, "disk.img").unwrap();
    (disk, Serving::start(image, address))
}

#[test]
fn qemu_img_reads_compares_and_converts_it() {
    require("qemu-img", "qemu-utils");
    let lab = Lab::new();
    for (size, address) in [
        ((200 << 20) as u64, Address::Unix(lab.path("socket"))),
        ((200 << 20) + 1536, "tcp:127.0.0.1:0".parse().unwrap()),
    ] {
        let (disk, serving) = serve(&lab, size, &address);
        let (disk, url) = (disk.to_str().unwrap(), serving.address.uri());
        let info = run("qemu-img", &["info", "--output=json", &url]);
        assert!(info.contains(&format!("\"virtual-size\": {size}")), "{info}");
        run("qemu-img", &["compare", "-f", "raw", "-F", "raw", disk, &url]);
        let (raw, qcow) = (lab.path("copy.raw"), lab.path("copy.qcow2"));
        let (raw, qcow) = (raw.to_str().unwrap(), qcow.to_str().unwrap());
        run(
            "qemu-img",
            &["convert", "-f", "raw", "-O", "raw", "-m", "16", "-W", &url, raw],
        );
        run("cmp", &[disk, raw]);
        run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &url, qcow]);
        run("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", qcow, disk]);
        let map = run("qemu-img", &["map", "-f", "raw", "--output=json", &url]);
        let data: u64 = extents(&map)
            .iter()
            .filter(|extent| !extent.2)
            .map(|extent| extent.1)
            .sum();
        assert!((35 << 20..64 << 20).contains(&data), "holes are told: {map}");
        let written = fs::metadata(raw).unwrap().blocks() * 512;
        assert!(written < 64 << 20, "holes stay holes: {written}");
        // The older way to write the address.
        if let Address::Unix(path) = &address {
            run("qemu-img", &["info", &format!("nbd:unix:{}", path.display())]);
        }
        let refused = attempt("qemu-io", &["-f", "raw", "-c", "write 0 512", &url]);
        assert!(
            !String::from_utf8_lossy(&refused.stdout).contains("wrote"),
            "{refused:?}"
        );
    }
}

/// Begin, length and whether it is zeros, of each extent in what `qemu-img map` prints.
fn extents(json: &str) -> Vec<(u64, u64, bool)> {
    let number = |line: &str, name: &str| -> u64 {
        let rest = line.split(&format!("\"{name}\": ")).nth(1).unwrap();
        rest.split([',', '}']).next().unwrap().parse().unwrap()
    };
    let lines = json.lines().filter(|line| line.contains("\"start\""));
    lines
        .map(|line| {
            (
                number(line, "start"),
                number(line, "length"),
                line.contains("\"zero\": true"),
            )
        })
        .collect()
}

#[test]
fn nbdinfo_and_nbdcopy_know_and_copy_it() {
    require("nbdinfo", "libnbd-bin");
    require("nbdcopy", "libnbd-bin");
    let lab = Lab::new();
    let size = (150 << 20) + 777;
    let (disk, serving) = serve(&lab, size, &Address::Unix(lab.path("socket")));
    let url = serving.address.uri();
    assert_eq!(run("nbdinfo", &["--size", &url]).trim(), size.to_string());
    let info = run("nbdinfo", &["--json", &url]);
    for wanted in [
        "\"is_read_only\": true",
        "\"can_multi_conn\": true",
        "base:allocation",
        "\"can_df\": true",
    ] {
        assert!(info.contains(wanted), "{wanted}: {info}");
    }
    assert!(info.contains("structured"), "{info}");
    let list = run("nbdinfo", &["--list", &url]);
    assert!(
        list.contains("export=\"disk.img\"") && list.contains("vm/100"),
        "{list}"
    );
    let map = run("nbdinfo", &["--map", &url]);
    assert!(map.contains("hole,zero") && map.contains("data"), "{map}");
    for name in ["disk.img", "disk"] {
        let named = url.replace("nbd+unix:///", &format!("nbd+unix:///{name}"));
        assert_eq!(run("nbdinfo", &["--size", &named]).trim(), size.to_string());
    }
    let unknown = attempt("nbdinfo", &[&url.replace("nbd+unix:///", "nbd+unix:///other")]);
    assert!(!unknown.status.success());
    assert!(
        String::from_utf8_lossy(&unknown.stderr).contains("No such file"),
        "{unknown:?}"
    );

    let copy = lab.path("copy");
    for arguments in [
        &["--connections=4", "--requests=64"][..],
        &["--synchronous"],
        &["--request-size=33554432"],
    ] {
        let _ = fs::remove_file(&copy);
        run("nbdcopy", &[arguments, &[&url, copy.to_str().unwrap()]].concat());
        run("cmp", &[disk.to_str().unwrap(), copy.to_str().unwrap()]);
    }
}

#[test]
fn other_servers_can_stand_between() {
    require("nbdkit", "nbdkit");
    require("qemu-nbd", "qemu-utils");
    let lab = Lab::new();
    let (disk, serving) = serve(&lab, 150 << 20, &Address::Unix(lab.path("socket")));
    let (disk, url) = (disk.to_str().unwrap(), serving.address.uri());
    let compare = format!("qemu-img compare -f raw -F raw {disk} \"$uri\"");
    run("nbdkit", &["-r", "-U", "-", "nbd", &url, "--run", &compare]);
    let second = lab.path("second");
    let second = second.to_str().unwrap();
    let mut qemu = std::process::Command::new("qemu-nbd")
        .args(["-r", "-f", "raw", "-k", second, &url])
        .spawn()
        .unwrap();
    while !lab.path("second").exists() {
        assert!(qemu.try_wait().unwrap().is_none(), "qemu-nbd ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    run(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "raw",
            disk,
            &format!("nbd+unix:///?socket={second}"),
        ],
    );
    let _ = qemu.wait();
}
