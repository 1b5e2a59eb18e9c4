//! `probe = { boot = { marker = "login:" } }`: starts a machine (QEMU) from what was restored, and waits until it says something on
//! its serial console.

use std::path::Path;
use std::time::{Duration, Instant};

use relight_model::{ByteSize, TimeSpan};
use relight_repo::RepoError;
use serde::Deserialize;

use crate::error::{Result, WorkloadError};
use crate::kind::Work;
use crate::rehearse::Probed;
use crate::rehearse::command::{find_program, shown};
use crate::rehearse::isolated::{Isolated, Running};

/// Memory stays free beside that of the machine, in bytes.
const SPARE_MEMORY: u64 = 256 << 20;
/// Least memory that a machine gets.
const LEAST_MEMORY: ByteSize = ByteSize(16 << 20);
/// How often it is looked what the console says.
const LOOK: Duration = Duration::from_millis(50);
/// What the machine writes lies here until it is gone; in bytes.
pub const OVERLAY: u64 = 512 << 20;

/// How a machine is booted, and how it is seen to be up.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BootWords {
    /// What it says on its first serial port when it is up. Linux does with `console=ttyS0`.
    marker: String,
    /// Its memory.
    #[serde(default = "memory")]
    memory: ByteSize,
    /// How long it may take.
    #[serde(default = "timeout")]
    timeout: TimeSpan,
    /// Which image it boots from [the largest]. The others are attached as well.
    pub image: Option<String>,
    /// How it sees its disks: what the guest has drivers for.
    #[serde(default)]
    disk: Bus,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Bus {
    #[default]
    Virtio,
    Scsi,
    Sata,
}

fn memory() -> ByteSize {
    ByteSize::gib(1)
}

fn timeout() -> TimeSpan {
    TimeSpan(Duration::from_secs(600))
}

impl BootWords {
    /// Whether they make sense.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        if self.marker.trim().is_empty() {
            return Err(
                "boot: marker says nothing; name what the machine says when it is up, such as \"login:\""
                    .into(),
            );
        }
        if self.memory < LEAST_MEMORY {
            return Err(format!("boot: with {} of memory nothing boots", self.memory));
        }
        if self.timeout.0.is_zero() {
            return Err("boot: timeout must be longer than nothing".into());
        }
        Ok(())
    }

    /// Boots from the first of `images`, which stay as they are.
    ///
    /// # Errors
    /// There is no QEMU, not enough memory, it cannot be isolated, or it was cancelled.
    pub fn run(&self, images: &[&Path], sandbox: &Path, work: &Work) -> Result<Probed> {
        let program = find_program("qemu-system-x86_64", "qemu-system-x86")?;
        if let Some(free) = free_memory()
            && free < self.memory.0.saturating_add(SPARE_MEMORY)
        {
            return Err(WorkloadError::Refused(format!(
                "the machine needs {} of memory, but only {} are free here",
                self.memory,
                ByteSize(free)
            )));
        }
        work.note("probe: booting");
        let began = Instant::now();
        let mut accelerator = if has_kvm() { "kvm" } else { "tcg" };
        let mut running = self.command(&program, images, sandbox, accelerator).start()?;
        let marker = self.marker.as_bytes();
        loop {
            let output = running.output();
            if output.windows(marker.len()).any(|part| part == marker) {
                let took = TimeSpan(Duration::from_millis(began.elapsed().as_millis() as u64));
                running.kill()?;
                let seen = format!("it said {:?} after {took} ({accelerator})", self.marker);
                return Ok(Probed::passed("boot", seen));
            }
            if let Some(why) = self.given_up(&mut running, began, work)? {
                running.kill()?;
                let output = running.output();
                if accelerator == "kvm" && is_of_kvm(&output) {
                    work.note("probe: KVM does not work on this machine; booting without, which is slow");
                    accelerator = "tcg";
                    running = self.command(&program, images, sandbox, accelerator).start()?;
                    continue;
                }
                let said = match shown(&output) {
                    said if said.is_empty() => "it said nothing on its serial console".to_owned(),
                    said => format!("its last words: {said}"),
                };
                return Ok(Probed::failed("boot", format!("{why} ({accelerator}); {said}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn given_up(&self, running: &mut Running, began: Instant, work: &Work) -> Result<Option<String>> {
        if work.is_cancelled() {
            running.kill()?;
            return Err(RepoError::Cancelled.into());
        }
        if running.ended()?.is_some() {
            return Ok(Some(format!(
                "the machine ended before it said {:?}",
                self.marker
            )));
        }
        let is_over = began.elapsed() >= self.timeout.0;
        Ok(is_over.then(|| format!("it did not say {:?} within {}", self.marker, self.timeout)))
    }

    fn command(&self, program: &Path, images: &[&Path], sandbox: &Path, accelerator: &str) -> Isolated {
        let memory = self.memory.0 >> 20;
        let mut command = Isolated::new(program, sandbox)
            // Where the writes of the machine go: they are gone when it is.
            .env("TMPDIR", sandbox)
            .args(["-nodefaults", "-no-user-config", "-machine", "q35", "-cpu", "max"])
            .args(["-accel", accelerator])
            .args([
                "-m",
                &format!("{memory}M"),
                "-smp",
                "2",
                "-nic",
                "none",
                "-vga",
                "std",
            ])
            .args([
                "-display",
                "none",
                "-monitor",
                "none",
                "-serial",
                "stdio",
                "-no-reboot",
            ])
            .args(["-device", "virtio-rng-pci"]);
        if matches!(self.disk, Bus::Scsi) {
            command = command.args(["-device", "virtio-scsi-pci"]);
        }
        let device = match self.disk {
            Bus::Virtio => "virtio-blk-pci",
            Bus::Scsi => "scsi-hd",
            Bus::Sata => "ide-hd",
        };
        for (number, image) in images.iter().enumerate() {
            // A comma ends an option, and is written twice.
            let path = image.display().to_string().replace(',', ",,");
            let drive = format!("file={path},if=none,id=disk{number},format=raw,snapshot=on");
            let device = format!("{device},drive=disk{number},bootindex={number}");
            command = command.args(["-drive", &drive, "-device", &device]);
        }
        command
    }
}

/// Whether this process may use KVM, as far as that can be told without trying.
fn has_kvm() -> bool {
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    device.is_ok()
}

/// Whether QEMU ended because of KVM: inside another virtual machine it may be there and not work.
fn is_of_kvm(output: &[u8]) -> bool {
    let text = String::from_utf8_lossy(output);
    text.lines()
        .any(|line| line.starts_with("qemu-system-x86_64:") && line.to_ascii_lowercase().contains("kvm"))
}

/// Bytes of memory that programs can have, as the kernel estimates it.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
