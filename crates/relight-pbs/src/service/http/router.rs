//! Which handler a method and a path lead to.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::Method;
use serde::de::DeserializeOwned;

use super::{Answer, ApiError, ApiResult, Call, Parameters};

type Handling = Pin<Box<dyn Future<Output = ApiResult<Answer>> + Send>>;
type Handler = Arc<dyn Fn(Call, Parameters) -> Handling + Send + Sync>;

/// One route.
#[derive(Clone)]
pub struct Route {
    handler: Handler,
    /// Whether nobody needs to be known for it.
    pub(super) public: bool,
    /// Whether it changes something.
    pub(super) changing: bool,
    /// Whether its body is no parameters.
    pub(super) raw_body: bool,
}

impl Route {
    /// Opens it to everybody, without credentials.
    pub fn public(&mut self) -> &mut Self {
        self.public = true;
        self
    }

    /// Says whether it changes something, and so leaves a record. What is not said: everything but GET does.
    pub fn changing(&mut self, changing: bool) -> &mut Self {
        self.changing = changing;
        self
    }

    /// Leaves the body to the handler ([`Call::body`]); parameters are only in path and query.
    pub fn raw_body(&mut self) -> &mut Self {
        self.raw_body = true;
        self
    }

    pub(super) fn call(&self, call: Call, parameters: Parameters) -> Handling {
        (self.handler)(call, parameters)
    }
}

/// All routes: those of the protocol, under `/api2/json`, and the server's own ones beside it.
#[derive(Default)]
pub struct Router {
    root: Node,
    own: Node,
}

#[derive(Default)]
struct Node {
    routes: HashMap<Method, Route>,
    fixed: HashMap<&'static str, Node>,
    /// A part that may be anything, and the parameter it becomes.
    any: Option<(&'static str, Box<Node>)>,
}

impl Router {
    /// Without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route of the protocol, under `/api2/json`. In a path such as `/admin/datastore/{store}/groups`, a part in braces stands for anything, and becomes the
    /// parameter of that name. `P` reads the parameters: a struct with `#[serde(deny_unknown_fields)]` and without
    /// `flatten`, or [`super::NoParameters`].
    ///
    /// # Panics
    /// The route is there already, or two routes name the same part differently: slips of the programmer, found by any test.
    pub fn on<P, H, F>(&mut self, method: Method, path: &'static str, handler: H) -> &mut Route
    where
        P: DeserializeOwned + Send + 'static,
        H: Fn(Call, P) -> F + Send + Sync + 'static,
        F: Future<Output = ApiResult<Answer>> + Send + 'static,
    {
        self.root.add(method, path, handle(handler))
    }

    /// Adds a route by its whole path, outside the protocol: what fails there is told as JSON. Otherwise as [`Router::on`].
    ///
    /// # Panics
    /// As [`Router::on`].
    pub fn on_own<P, H, F>(&mut self, method: Method, path: &'static str, handler: H) -> &mut Route
    where
        P: DeserializeOwned + Send + 'static,
        H: Fn(Call, P) -> F + Send + Sync + 'static,
        F: Future<Output = ApiResult<Answer>> + Send + 'static,
    {
        self.own.add(method, path, handle(handler))
    }

    /// Adds a route whose handler is plain code that may wait for storage: it runs on a thread of its own.
    ///
    /// # Panics
    /// As [`Router::on`].
    pub fn on_blocking<P, H>(&mut self, method: Method, path: &'static str, handler: H) -> &mut Route
    where
        P: DeserializeOwned + Send + 'static,
        H: Fn(Call, P) -> ApiResult<Answer> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        self.on(method, path, move |call, parameters: P| {
            let handler = handler.clone();
            blocking(move || handler(call, parameters))
        })
    }

    /// The route of a path of the protocol, and what its parts in braces are.
    pub(super) fn find<'a>(&self, method: &Method, parts: &'a [String]) -> Option<Found<'_, 'a>> {
        self.root.find(method, parts)
    }

    /// The same of a path outside the protocol.
    pub(super) fn find_own<'a>(&self, method: &Method, parts: &'a [String]) -> Option<Found<'_, 'a>> {
        self.own.find(method, parts)
    }

    /// The methods that a path outside the protocol knows, in their order.
    pub(super) fn own_methods(&self, parts: &[String]) -> Vec<&str> {
        let mut methods: Vec<&str> = match self.own.at(parts) {
            Some((node, _)) => node.routes.keys().map(Method::as_str).collect(),
            None => Vec::new(),
        };
        methods.sort_unstable();
        methods
    }
}

/// A route, and what the parts in braces of its path are.
pub(super) type Found<'r, 'p> = (&'r Route, Vec<(&'static str, &'p str)>);

fn handle<P, H, F>(handler: H) -> Handler
where
    P: DeserializeOwned + Send + 'static,
    H: Fn(Call, P) -> F + Send + Sync + 'static,
    F: Future<Output = ApiResult<Answer>> + Send + 'static,
{
    Arc::new(move |call, parameters: Parameters| match parameters.read::<P>() {
        Ok(parameters) => Box::pin(handler(call, parameters)),
        Err(error) => Box::pin(std::future::ready(Err(error))),
    })
}

impl Node {
    fn add(&mut self, method: Method, path: &'static str, handler: Handler) -> &mut Route {
        let mut node = self;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            node = match name {
                None => node.fixed.entry(part).or_default(),
                Some(name) => {
                    let (known, next) = node.any.get_or_insert_with(|| (name, Box::default()));
                    assert_eq!(*known, name, "{path}: the part has another name already");
                    next
                }
            };
        }
        let changing = method != Method::GET;
        let route = Route {
            handler,
            public: false,
            changing,
            raw_body: false,
        };
        assert!(
            !node.routes.contains_key(&method),
            "{method} {path}: the route is there already"
        );
        node.routes.entry(method).or_insert(route)
    }

    fn at<'a>(&self, parts: &'a [String]) -> Option<(&Self, Vec<(&'static str, &'a str)>)> {
        let mut node = self;
        let mut named = Vec::new();
        for part in parts {
            node = match (node.fixed.get(part.as_str()), &node.any) {
                (Some(next), _) => next,
                (None, Some((name, next))) => {
                    named.push((*name, part.as_str()));
                    next
                }
                (None, None) => return None,
            };
        }
        Some((node, named))
    }

    fn find<'a>(&self, method: &Method, parts: &'a [String]) -> Option<Found<'_, 'a>> {
        let (node, named) = self.at(parts)?;
        Some((node.routes.get(method)?, named))
    }
}

/// Runs plain code that may wait for storage, on a thread of its own.
///
/// # Errors
/// Those of the code; 500 if it came to an untimely end.
pub async fn blocking<T, F>(code: F) -> ApiResult<T>
where
    T: Send + 'static,
    F: FnOnce() -> ApiResult<T> + Send + 'static,
{
    tokio::task::spawn_blocking(code).await.unwrap_or_else(|error| {
        tracing::error!("a call failed unexpectedly: {error}");
        Err(ApiError::internal(
            "the call failed unexpectedly; the server's log tells more",
        ))
    })
}
