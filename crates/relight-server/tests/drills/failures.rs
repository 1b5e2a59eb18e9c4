//! Drills that must fail, and do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use relight_model::objective::Verdict;
use relight_model::plan::Method;
use relight_repo::session::Session;
use relight_repo::snapshot::Snapshot;
use relight_server::evidence::detail::DrillDetail;
use relight_workloads::files::Files;
use relight_workloads::kind::{Captured, Kind, Subject, Work};
use relight_workloads::rehearse::{Probed, Rehearsal, Rehearse, Restored};
use relight_workloads::{Result, WorkloadError};

use crate::lab::Lab;

fn assert_failed(detail: &DrillDetail, code: &str, says: &str) {
    assert_eq!(detail.code.as_deref(), Some(code), "{detail:?}");
    let message = detail.message.as_deref().unwrap();
    assert!(message.contains(says), "{message}");
    assert!(!detail.is_good());
    assert_eq!((detail.measured, detail.measurement()), (None, None));
    assert_eq!(detail.verdict, Verdict::NotMeasured);
}

#[test]
fn damaged_and_lost_chunks_are_noticed() {
    let mut lab = Lab::new();
    lab.save();
    lab.damage();
    let detail = lab.drill(&Files, "", |_| {});
    assert_failed(&detail, "RL309", "content: ");
    lab.lose();
    let detail = lab.drill(&Files, "", |_| {});
    assert_failed(&detail, "RL309", "did not come back");
}

#[test]
fn a_command_that_fails_or_never_ends_fails_the_drill() {
    let lab = Lab::new();
    lab.save();
    let detail = lab.drill(
        &Files,
        "command = ['/bin/sh', '-c', 'echo the index is broken; exit 3']",
        |_| {},
    );
    assert_failed(&detail, "RL309", "exit code 3: the index is broken");
    let began = Instant::now();
    let detail = lab.drill(&Files, "command = ['/bin/sleep', '60']\ntimeout = '1 s'", |_| {});
    assert_failed(&detail, "RL309", "ran for too long");
    assert!(began.elapsed() < Duration::from_secs(30));
    let detail = lab.drill(&Files, "command = ['/no/such/program']", |_| {});
    assert_failed(&detail, "RL309", "exit code 127");
}

#[test]
fn without_a_recovery_point_or_with_unknown_words_nothing_is_made() {
    let lab = Lab::new();
    assert_failed(
        &lab.drill(&Files, "", |_| {}),
        "RL301",
        "main has no snapshot of fs/src",
    );
    lab.save_as(false, &["src/hello: not readable"]);
    assert_failed(&lab.drill(&Files, "", |_| {}), "RL301", "no complete snapshot");
    assert_failed(
        &lab.drill(&Files, "comand = ['x']", |_| {}),
        "RL302",
        "there is no \"comand\"",
    );
    assert_failed(&lab.drill(&Files, "timeout = 5", |_| {}), "RL302", "probe: ");
}

#[test]
fn a_cancelled_drill_ends_soon_and_leaves_nothing() {
    let lab = Lab::new();
    lab.save();
    let work = Work::quiet();
    let stop = work.cancelled.clone();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        stop.store(true, Ordering::Relaxed);
    });
    let began = Instant::now();
    let detail = lab.watched(&Files, "command = ['/bin/sleep', '60']", &work, |_| {});
    stopper.join().unwrap();
    assert_failed(&detail, "RL313", "");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_plan_that_names_another_machine_is_told() {
    let lab = Lab::new();
    lab.save();
    let detail = lab.drill(&Files, "", |request| {
        request.drilled.host = Some("elsewhere".into())
    });
    assert!(detail.is_good());
    assert!(
        detail.remarks[0].starts_with("the plan wants it on elsewhere"),
        "{detail:?}"
    );
    let this = lab.repository.options().host.clone();
    let detail = lab.drill(&Files, "", |request| request.drilled.host = Some(this));
    assert_eq!(detail.remarks, Vec::<String>::new());
}

/// How a kind misbehaves.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    TooLarge,
    PanicsInRestore,
    PanicsInProbe,
    DoesNotStart,
    ProbesNothing,
    NoticesNothing,
    DoesNotStop,
}

struct Faulty(Fault);

impl Kind for Faulty {
    fn method(&self) -> Method {
        Method::Files
    }

    fn check(&self, _: &Subject) -> Result<()> {
        Ok(())
    }

    fn capture(&self, _: &Subject, _: &Session, _: Option<&Snapshot>, _: &Work) -> Result<Captured> {
        Ok(Captured::default())
    }

    fn rehearse(&self) -> Option<&dyn Rehearse> {
        Some(self)
    }
}

impl Rehearse for Faulty {
    fn check_probe(&self, _: &Subject) -> Result<()> {
        Ok(())
    }

    fn room(&self, _: &Rehearsal<'_>) -> Result<u64> {
        Ok(if self.0 == Fault::TooLarge { 1 << 60 } else { 0 })
    }

    fn restore<'a>(&self, rehearsal: &Rehearsal<'a>, _: &Work) -> Result<Box<dyn Restored + 'a>> {
        std::fs::write(rehearsal.sandbox.join("something"), "x").unwrap();
        assert!(self.0 != Fault::PanicsInRestore, "on purpose");
        Ok(Box::new(RestoredFaulty(self.0)))
    }
}

struct RestoredFaulty(Fault);

impl Restored for RestoredFaulty {
    fn size(&self) -> u64 {
        1
    }

    fn start(&mut self, _: &Work) -> Result<()> {
        match self.0 {
            Fault::DoesNotStart => Err(WorkloadError::Refused("it does not start".into())),
            _ => Ok(()),
        }
    }

    fn probe(&mut self, _: &Work) -> Result<Vec<Probed>> {
        assert!(self.0 != Fault::PanicsInProbe, "on purpose");
        Ok(match self.0 {
            Fault::ProbesNothing => Vec::new(),
            _ => vec![Probed::passed("blind", "everything looks fine")],
        })
    }

    fn spoil(&mut self, _: &Work) -> Result<String> {
        Ok("all of it was removed".into())
    }

    fn stop(&mut self) -> Result<()> {
        match self.0 {
            Fault::DoesNotStop => Err(WorkloadError::Refused("it still runs".into())),
            _ => Ok(()),
        }
    }
}

#[test]
fn whatever_a_kind_does_the_drill_ends_and_everything_is_torn_down() {
    let lab = Lab::new();
    lab.save();
    let drill = |fault| lab.drill(&Faulty(fault), "", |request| request.control = true);
    assert_failed(&drill(Fault::TooLarge), "RL303", "make room");
    assert_failed(&drill(Fault::PanicsInRestore), "RL314", "on purpose");
    assert_failed(&drill(Fault::PanicsInProbe), "RL314", "on purpose");
    assert_failed(&drill(Fault::DoesNotStart), "RL308", "it does not start");
    assert_failed(&drill(Fault::ProbesNothing), "RL310", "nothing was looked at");
}

#[test]
fn a_probe_that_notices_nothing_proves_nothing() {
    let lab = Lab::new();
    lab.save();
    let kind = Faulty(Fault::NoticesNothing);
    let detail = lab.drill(&kind, "", |request| request.control = true);
    assert_eq!(detail.code.as_deref(), Some("RL311"));
    assert!(!detail.is_good() && !detail.control.unwrap().noticed);
    // Without the control nobody finds out.
    assert!(lab.drill(&kind, "", |_| {}).is_good());
    let detail = lab.drill(&Faulty(Fault::DoesNotStop), "", |_| {});
    assert_eq!(detail.code.as_deref(), Some("RL312"));
    let arc: Arc<dyn Kind> = Arc::new(kind);
    assert!(arc.rehearse().is_some());
}
