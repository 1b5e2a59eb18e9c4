//! The server as a whole: opened, bound, run, stopped.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relight_pbs::service;
use relight_pbs::service::datastore::Stores;
use relight_pbs::service::http::{HttpService, Limits, Router};
use relight_pbs::service::tasks::{self, Tasks};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::Desk;
use crate::config::Config;
use crate::error::{Result, ServerError};
use crate::evidence::{Kind, NewEvidence, Outcome};
use crate::gate::Gate;
use crate::jobs::{self, Jobs};
use crate::listener::{self, Gatehouse};
use crate::logs::Followers;
use crate::monitor::{self, Monitor};
use crate::notify::notify;
use crate::own::Keeper;
use crate::runs::{Board, Context, Runs};
use crate::state::State;
use crate::tls::Certificate;
use crate::{api, page, repositories, rest};

/// How long the last backup of the server's own state may take when it stops.
const LAST_BACKUP: Duration = Duration::from_secs(30);

/// A server that has been opened.
pub struct Server {
    config: Config,
    certificate: Arc<Certificate>,
    gate: Arc<Gate>,
    tasks: Arc<Tasks>,
    jobs: Arc<Jobs>,
    service: Arc<HttpService>,
    keeper: Keeper,
    context: Arc<Context>,
    board: Board,
    monitor: Arc<Monitor>,
    listeners: Vec<TcpListener>,
    stop: watch::Sender<bool>,
}

/// Tells a server to stop, or to read its certificate again.
#[derive(Clone)]
pub struct Stopper {
    stop: watch::Sender<bool>,
    certificate: Arc<Certificate>,
}

impl Stopper {
    /// Takes no new connections; what runs may go on for the grace time.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Reads the certificate again.
    ///
    /// # Errors
    /// It cannot be read; the one from before goes on being used.
    pub fn reload(&self) -> Result<()> {
        self.certificate.reload()
    }
}

impl Server {
    /// Opens state, certificate and all repositories, which may take a while for large ones.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open(config: Config) -> Result<Self> {
        check_user(&config.server.state)?;
        let state = Arc::new(State::open(&config.server.state)?);
        let host = match &config.server.node {
            Some(node) => node.clone(),
            None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        };
        let certificate = Certificate::open(&config.server, &host)?;
        let tasks_folder = config.server.state.join("tasks");
        let tasks = Tasks::open(&tasks_folder, &host).map_err(ServerError::file("open", &tasks_folder))?;
        let gate = Gate::new(state)?
            .with_approvals(config.approvals.clone())
            .with_sign_in(config.sign_in()?);
        let gate = Arc::new(gate);
        let mut router = Router::new();
        let about = rest::About {
            fingerprint: certificate.fingerprint(),
            instance: gate.state().instance_id()?,
            datastores: config
                .repositories
                .iter()
                .map(|repository| repository.name.clone())
                .collect(),
        };
        rest::routes(&mut router, &gate, about);
        tasks::rest::routes(&mut router, &tasks);
        let stores = Arc::new(Stores::new());
        let mut datastores = Vec::new();
        for repository in &config.repositories {
            let datastore = repositories::datastore(repository, &config.server)?;
            datastores.push(datastore.clone());
            stores.add(datastore);
        }
        service::rest::routes(&mut router, &stores, &tasks);
        service::backup::routes(&mut router, &stores, &tasks);
        service::reader::routes(&mut router, &stores, &tasks);
        let jobs = Jobs::new(&gate, &stores, &tasks)?;
        rest::job_routes(&mut router, &jobs);
        let context = Arc::new(Context {
            state: gate.state().clone(),
            datastores: datastores
                .iter()
                .map(|datastore| (datastore.name().to_string(), datastore.clone()))
                .collect(),
            tasks: tasks.clone(),
            instance: gate.state().instance_id()?,
            host: host.clone(),
            sandbox: config.server.state.join("sandbox"),
            logs: config.server.state.join("logs"),
            approvals: config.approvals.clone(),
        });
        let board = Board::open(&config)?;
        gate.follow(&board);
        let desk = Desk {
            gate: gate.clone(),
            board: board.clone(),
            context: context.clone(),
            history: Mutex::default(),
            repositories: config.repositories.clone(),
            plan: config.path.clone(),
            restore: config.restore.clone(),
            open: Default::default(),
            downloads: Default::default(),
        };
        api::routes(&mut router, Arc::new(desk));
        page::routes(&mut router);
        let monitor = Monitor::new(&config, board.clone(), &context);
        monitor::routes(&mut router, &monitor);
        let keeper = Keeper::start(&config, gate.state(), &host, datastores)?;
        let service = HttpService::new(router, gate.clone(), Limits::default());
        Ok(Self {
            config,
            certificate,
            gate,
            tasks,
            jobs,
            service,
            keeper,
            context,
            board,
            monitor,
            listeners: Vec::new(),
            stop: watch::Sender::new(false),
        })
    }

    /// SHA-256 of the certificate: what a client is told to expect.
    pub fn fingerprint(&self) -> String {
        self.certificate.fingerprint()
    }

    /// How to stop it.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            stop: self.stop.clone(),
            certificate: self.certificate.clone(),
        }
    }

    /// Listens, without taking connections yet; gives the addresses.
    ///
    /// # Errors
    /// An address is taken, or not this host's.
    pub async fn bind(&mut self) -> Result<Vec<SocketAddr>> {
        for address in &self.config.server.listen {
            self.listeners.extend(listener::bind(address).await?);
        }
        let address = |listener: &TcpListener| {
            listener
                .local_addr()
                .map_err(|error| ServerError::System(format!("the address that is listened on: {error}")))
        };
        self.listeners.iter().map(address).collect()
    }

    /// Serves until told to stop, then lets sessions and tasks end for the grace time, and breaks off what is left.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub async fn run(self) -> Result<()> {
        let followers = Followers::start(&self.context, &self.board);
        let runs = Runs::start(&self.config, self.context, self.board)?;
        let watching_all = self.monitor.start();
        let limits = &self.config.server;
        let house = Gatehouse::new(
            self.service.clone(),
            self.certificate.acceptor()?,
            limits.max_connections,
            limits.max_connections_per_address,
        );
        let mut listening = Vec::new();
        for listener in self.listeners {
            listening.push(tokio::spawn(
                house.clone().listen(listener, self.stop.subscribe()),
            ));
        }
        let watching = tokio::spawn(jobs::watch(self.jobs.clone(), self.stop.subscribe()));
        self.gate.watch_directories(&self.stop);
        note(&self.gate, Kind::Server, "the server was started");
        for repository in &self.config.repositories {
            let key = if repository.key_file.is_some() {
                "key file"
            } else {
                "passphrase"
            };
            let what = format!("opened the repository {} with its {key}", repository.name);
            note(&self.gate, Kind::Key, &what);
        }
        notify("READY=1");
        let mut stop = self.stop.subscribe();
        let _ = stop.wait_for(|stop| *stop).await;
        notify("STOPPING=1");
        for task in listening {
            let _ = task.await;
        }
        let _ = watching.await;
        self.service.stop();
        let grace = self.config.server.grace.0;
        let followers = tokio::task::spawn_blocking(move || followers.close(grace));
        let runs = tokio::task::spawn_blocking(move || runs.close(grace));
        self.tasks.stop_workers();
        let left = async {
            self.service.ended().await;
            while self.tasks.running() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(self.config.server.grace.0, left)
            .await
            .is_err()
        {
            tracing::warn!(
                "{} sessions are broken off, and {} tasks",
                self.service.sessions(),
                self.tasks.running()
            );
        }
        // Tasks end at a point where nothing is lost; those of sessions end with them.
        self.tasks.stop_all();
        self.service.abort();
        let ended = async {
            self.service.ended().await;
            while self.tasks.running() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(20), ended).await;
        // What they broke off is started again by the next server.
        let _ = tokio::time::timeout(Duration::from_secs(30), runs).await;
        let _ = tokio::time::timeout(Duration::from_secs(5), followers).await;
        let gate = self.gate.clone();
        let closed = tokio::task::spawn_blocking(move || {
            watching_all.close();
            gate.close();
            note(&gate, Kind::Server, "the server was stopped");
        });
        let _ = closed.await;
        // A repository that cannot be reached must not keep the server from stopping.
        let keeper = self.keeper;
        let saved = tokio::task::spawn_blocking(move || keeper.close());
        if tokio::time::timeout(LAST_BACKUP, saved).await.is_err() {
            tracing::warn!(
                "the server's own state could not be saved in time; that is done after the next start"
            );
        }
        Ok(())
    }
}

/// Writes down what the server did. That it cannot be written is no reason not to give backups back.
fn note(gate: &Gate, kind: Kind, what: &str) {
    let version = env!("CARGO_PKG_VERSION").into();
    let event = NewEvidence {
        time: jiff::Timestamp::now(),
        kind,
        who: None,
        what: what.into(),
        outcome: Outcome::Done,
        detail: serde_json::Map::from_iter([("version".to_string(), version)]),
    };
    if let Err(error) = gate.state().add_evidence(&[event]) {
        tracing::error!("{error}: that {what} could not be written down");
    }
}

/// Refuses to work as somebody else than whom the state belongs to: what root made in it, or in the caches, the server's own
/// user could not use later.
fn check_user(state: &Path) -> Result<()> {
    let Ok(owner) = std::fs::metadata(state) else {
        // It is made by whoever is first.
        return Ok(());
    };
    let (owner, me) = (owner.uid(), rustix::process::geteuid().as_raw());
    if owner == me {
        return Ok(());
    }
    Err(ServerError::Refused(format!(
        "{} belongs to the user with the id {owner}, and this is {me}: run the server as that user (sudo -u '#{owner}' …), or \
         give the folder to this one",
        state.display()
    )))
}
