//! Plans and calendar events.

use super::Seed;

const PLANS: [&str; 4] = [
    include_str!("../../../dist/plan.toml"),
    include_str!("../../../dist/relight.toml"),
    "[plan]\ntime-zone = \"Mars/Olympus\"\n[polcy.x]\n[policy.y]\nshedule = \"02:00\"\nrpo = \"soon\"\n",
    "[[repository]]\nname = 'm'\n[policy.p]\nschedule = 'minutely'\nrepository = 'm'\njitter = '1 h'\n\
     retention = { keep-within = '1y6m' }\nlog = '5 m'\n[[workload]]\nnames = ['vm/1', 'vm/2']\npolicy = 'p'\n",
];

const EVENTS: [&str; 14] = [
    "02:00",
    "mon..fri 02:00",
    "sat,sun 14:00",
    "0/6:00",
    "*/6:00",
    "21:00/30",
    "*-*-1 03:30",
    "*-*~1",
    "sat *-1..7 15:00",
    "daily UTC",
    "quarterly",
    "*:0/15 Australia/Lord_Howe",
    "fri..mon 2026,2028-02-29 23:59:59",
    "*-2-30",
];

pub fn seeds() -> Vec<Seed> {
    let lists: [(&'static str, &[&str]); 2] = [("plan", &PLANS), ("calendar", &EVENTS)];
    let texts = lists.into_iter().flat_map(|(target, texts)| {
        let numbered = texts.iter().enumerate();
        numbered.map(move |(at, text)| (target, format!("text-{at}"), text.as_bytes().to_vec()))
    });
    texts.collect()
}
