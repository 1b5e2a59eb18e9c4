//! Shows how far long work has come: bytes, rate, remaining time; on a terminal only.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relight_model::duration::TimeSpan;
use relight_model::size::{ByteSize, Rate};

use crate::context::Global;

/// A line on the terminal that is kept up to date until this is dropped.
pub struct Meter {
    ended: Arc<AtomicBool>,
    drawer: Option<JoinHandle<()>>,
}

impl Meter {
    /// Shows `done` (bytes) of `total` (0 if that is not known), with what `label` says.
    pub fn start(
        global: &Global,
        done: Arc<AtomicU64>,
        total: u64,
        label: impl Fn() -> String + Send + 'static,
    ) -> Self {
        Self::showing(global, move || done.load(Ordering::Relaxed), total, label)
    }

    /// The same with the bytes from anywhere.
    pub fn showing(
        global: &Global,
        done: impl Fn() -> u64 + Send + 'static,
        total: u64,
        label: impl Fn() -> String + Send + 'static,
    ) -> Self {
        Self::drawing(global, done, total, label, line)
    }

    /// Shows how many things of `total` (0 if that is not known) are done.
    pub fn counting(global: &Global, done: Arc<AtomicU64>, total: u64, label: &'static str) -> Self {
        Self::drawing(
            global,
            move || done.load(Ordering::Relaxed),
            total,
            move || label.to_string(),
            count_line,
        )
    }

    fn drawing(
        global: &Global,
        done: impl Fn() -> u64 + Send + 'static,
        total: u64,
        label: impl Fn() -> String + Send + 'static,
        line: Line,
    ) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let shown = !global.quiet && !global.json && std::io::stderr().is_terminal();
        let drawer = shown.then(|| {
            let ended = ended.clone();
            std::thread::spawn(move || draw(&ended, &done, total, &label, line))
        });
        Self { ended, drawer }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(drawer) = self.drawer.take() {
            drawer.thread().unpark();
            let _ = drawer.join();
        }
    }
}

/// Makes the line of what is done, of how much, at which rate a second, and the label.
type Line = fn(u64, u64, f64, &str) -> String;

fn draw(ended: &AtomicBool, done: &dyn Fn() -> u64, total: u64, label: &dyn Fn() -> String, line: Line) {
    let began = Instant::now();
    // The rate of the last seconds tells more than that of the whole.
    let (mut marked, mut mark, mut rate) = (began, 0, 0.0);
    while !ended.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_millis(200));
        let (now, bytes) = (Instant::now(), done());
        let passed = now.duration_since(marked).as_secs_f64();
        if passed >= 1.0 {
            let latest = bytes.saturating_sub(mark) as f64 / passed;
            rate = if rate == 0.0 {
                latest
            } else {
                rate * 0.7 + latest * 0.3
            };
            (marked, mark) = (now, bytes);
        }
        eprint!("\r\x1b[K{}", line(bytes, total, rate, &label()));
    }
    eprint!("\r\x1b[K");
}

fn line(bytes: u64, total: u64, rate: f64, label: &str) -> String {
    let mut line = ByteSize(bytes).to_string();
    if total > 0 {
        let percent = (bytes as f64 / total as f64 * 100.0).min(100.0);
        line += &format!(" of {} ({percent:.0} %)", ByteSize(total));
    }
    if rate > 0.0 {
        line += &format!("  {}", Rate(rate as u64));
        if total > bytes {
            let left = Duration::from_secs_f64(((total - bytes) as f64 / rate).min(1e7));
            line += &format!("  {} left", TimeSpan(Duration::from_secs(left.as_secs())));
        }
    }
    let room = 100usize.saturating_sub(line.chars().count() + 2);
    let short: String = label
        .chars()
        .filter(|char| !char.is_control())
        .take(room)
        .collect();
    line + "  " + &short
}

fn count_line(done: u64, total: u64, _: f64, label: &str) -> String {
    match (done, total) {
        (0, 0) => format!("{label} …"),
        (done, 0) => format!("{label}: {done}"),
        (done, total) => format!("{label}: {done} of {total}"),
    }
}
