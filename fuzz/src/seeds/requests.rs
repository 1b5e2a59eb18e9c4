//! Requests as the original client sends them, and what goes with them.

use super::Seed;

const REQUESTS: [&str; 9] = [
    "GET /api2/json/ping HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET //api2/json/admin/datastore/main/groups?small=5&group=a&group=b HTTP/1.1\r\nhost: x\r\nuser-agent: \
     proxmox-backup-client/1.0\r\n\r\nGET /api2/extjs/nothing? HTTP/1.1\r\nhost: x\r\n\r\n",
    "POST /api2/json/admin/datastore/main/groups HTTP/1.1\r\ncontent-type: application/json\r\nhost: x\r\ncontent-length: \
     68\r\n\r\n{\"backup-time\":1700000001,\"dry-run\":true,\"group\":[\"a\"],\"any\":{\"a\":[1]}}",
    "PUT /api2/json/admin/datastore/m%61in/groups HTTP/1.1\r\ncontent-type: \
     application/x-www-form-urlencoded\r\ncontent-length: 24\r\n\r\nbackup-time=5&dry-run=no",
    "POST /api2/json/upload HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "GET //api2/json/backup? HTTP/1.1\r\nconnection: upgrade\r\nupgrade: v1\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: backup.example:8007\r\n\r\n",
    "DELETE /api2/json/admin/datastore/main/groups?who=a@pbs!t HTTP/1.0\r\n\r\n",
    "POST /api2/json/upload HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 3\r\ncookie: PBSAuthCookie=x\r\n\r\nabc",
];

const WORDS: [&str; 12] = [
    "root@pam",
    "bkup@pbs!tok1",
    "/datastore/main/lab",
    "//datastore//main/",
    "/",
    "DatastorePowerUser",
    "PBS:bkup@pbs:6553F100::+czDkhJi0NDI5gAEAa2vz8HCsVi/xEatF9C8Hjmp3X4",
    "6553F100:RyMzHm7lroYeU0K0t4wAF5ccXvjWpPISTxYDIeU7WKE",
    "store=main&backup-time=-5&small=255&dry-run=yes&group=a&group=b%2Fc+d&who=a@pbs",
    "store=main&password=hunter2&x=%0a%00",
    "{\"store\":\"main\",\"backup-time\":1,\"small\":2,\"dry-run\":1,\"group\":\"a\",\"any\":[null,{\"a\":1.5}]}",
    "store=%ff&store=2",
];

/// All of them.
pub fn seeds() -> Vec<Seed> {
    let requests = REQUESTS
        .iter()
        .enumerate()
        .map(|(at, text)| ("requests", format!("request-{at}"), text.as_bytes().to_vec()));
    let words = WORDS
        .iter()
        .enumerate()
        .map(|(at, text)| ("access_words", format!("word-{at}"), text.as_bytes().to_vec()));
    requests.chain(words).collect()
}
