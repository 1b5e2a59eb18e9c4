//! The table of operations: each is a route and its description at once.

use std::sync::Arc;

use http::Method;
use relight_pbs::service::http::{Answer, ApiResult, Call, NoParameters, Route, Router};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Desk, schema};

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A part of the path.
    Path,
    /// The query.
    Query,
    /// The body, an object of JSON; it must be there.
    Body,
}

/// A parameter.
pub(super) struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub schema: Value,
    pub what: &'static str,
}

/// What is said of an operation.
pub(super) struct Operation {
    pub method: Method,
    /// Its path, whole.
    pub path: &'static str,
    pub summary: &'static str,
    pub parameters: Vec<Parameter>,
    /// Shape of `data` in the answer.
    pub answer: Value,
    /// Shape of what is beside it.
    pub beside: Vec<(&'static str, Value)>,
    /// Whether nobody needs to be known for it.
    pub public: bool,
    /// What the answer may be, if it is no JSON.
    pub raw: &'static [&'static str],
}

impl Operation {
    pub fn get(path: &'static str, summary: &'static str, answer: Value) -> Self {
        Self::of(Method::GET, path, summary, answer)
    }

    pub fn of(method: Method, path: &'static str, summary: &'static str, answer: Value) -> Self {
        Self {
            method,
            path,
            summary,
            parameters: Vec::new(),
            answer,
            beside: Vec::new(),
            public: false,
            raw: &[],
        }
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, place: Place, schema: Value, what: &'static str) -> Self {
        self.parameters.push(Parameter {
            name,
            place,
            schema,
            what,
        });
        self
    }

    /// A list that is read page by page: `next` is what `from` wants for the next one; null after the last.
    #[must_use]
    pub fn paged(mut self, from: &'static str, what: &'static str) -> Self {
        self.beside.push(("next", schema::maybe(schema::count())));
        self.with(
            "limit",
            Place::Query,
            json!({"type": "integer", "minimum": 1, "maximum": super::MANY, "default": super::FEW}),
            "so many at most",
        )
        .with(from, Place::Query, schema::count(), what)
    }

    #[must_use]
    pub fn beside(mut self, name: &'static str, schema: Value) -> Self {
        self.beside.push((name, schema));
        self
    }

    /// It answers bytes of one of these types.
    #[must_use]
    pub fn gives(mut self, content_types: &'static [&'static str]) -> Self {
        self.raw = content_types;
        self
    }

    #[must_use]
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    fn id(&self) -> String {
        let mut id = self.method.as_str().to_ascii_lowercase();
        for part in self.path.trim_start_matches("/api/v1").split('/') {
            let part = part.trim_matches(['{', '}']);
            let mut letters = part.chars();
            id.extend(letters.next().map(|first| first.to_ascii_uppercase()));
            id.extend(letters);
        }
        id
    }

    fn described(&self) -> Value {
        let place = |place| match place {
            Place::Path => "path",
            Place::Query | Place::Body => "query",
        };
        let parameters: Vec<Value> = self
            .parameters
            .iter()
            .filter(|parameter| parameter.place != Place::Body)
            .map(|parameter| {
                json!({
                    "name": parameter.name,
                    "in": place(parameter.place),
                    "required": parameter.place == Place::Path,
                    "schema": parameter.schema,
                    "description": parameter.what,
                })
            })
            .collect();
        let body: Map<String, Value> = self
            .parameters
            .iter()
            .filter(|parameter| parameter.place == Place::Body)
            .map(|parameter| {
                let mut schema = parameter.schema.clone();
                schema["description"] = parameter.what.into();
                (parameter.name.to_owned(), schema)
            })
            .collect();
        let mut fields = vec![("data", self.answer.clone())];
        fields.extend(self.beside.iter().cloned());
        let mut responses = json!({
            "200": {
                "description": "done",
                "content": {"application/json": {"schema": schema::object(fields)}},
            },
        });
        if !self.raw.is_empty() {
            let bytes = |kind: &&str| ((*kind).to_owned(), json!({}));
            responses["200"]["content"] = self.raw.iter().map(bytes).collect::<Map<_, _>>().into();
        }
        let errors = [
            ("400", "what was asked for makes no sense, or cannot be done"),
            ("401", "nobody known sends it: log in, or send a token"),
            ("403", "a privilege is missing"),
            ("404", "there is no such thing, or the caller may not see it"),
            (
                "409",
                "something is not as it was when it was looked at; or a second person has to approve it (the header Relight-Approval has \
                 the number of the request: call again once that is approved)",
            ),
            ("413", "the body is too large"),
            ("414", "the path and its query are too long"),
            ("429", "too much of it: wait"),
            ("500", "something is wrong with the server; its log tells more"),
        ];
        for (status, what) in errors {
            responses[status] = json!({
                "description": what,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            });
        }
        let mut described = json!({
            "operationId": self.id(),
            "summary": self.summary,
            "parameters": parameters,
            "responses": responses,
        });
        if !body.is_empty() {
            let required: Vec<&String> = body.keys().collect();
            described["requestBody"] = json!({
                "required": true,
                "content": {"application/json": {"schema": {
                    "type": "object", "properties": body, "required": required, "additionalProperties": false,
                }}},
            });
        }
        if self.public {
            described["security"] = json!([{}]);
        } else if self.method != Method::GET {
            described["security"] = json!([{"token": []}, {"ticket": [], "csrf": []}]);
        }
        described
    }
}

/// Operations, as they are added.
pub(super) struct Table<'r> {
    router: &'r mut Router,
    desk: Arc<Desk>,
    paths: Map<String, Value>,
}

impl<'r> Table<'r> {
    pub fn new(router: &'r mut Router, desk: Arc<Desk>) -> Self {
        Self {
            router,
            desk,
            paths: Map::new(),
        }
    }

    fn note(&mut self, operation: &Operation) {
        let path = self.paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = operation.described();
    }

    /// Adds an operation whose handler may wait for the database and the storage.
    pub fn add<P, H>(&mut self, operation: Operation, handler: H) -> &mut Route
    where
        P: DeserializeOwned + Send + 'static,
        H: Fn(&Desk, &Call, P) -> ApiResult<Answer> + Send + Sync + 'static,
    {
        self.note(&operation);
        let (desk, handler) = (self.desk.clone(), Arc::new(handler));
        let route = self
            .router
            .on_own(operation.method, operation.path, move |call, parameters: P| {
                let (desk, handler) = (desk.clone(), handler.clone());
                relight_pbs::service::http::blocking(move || handler(&desk, &call, parameters))
            });
        if operation.public { route.public() } else { route }
    }

    /// Adds one that waits for something else.
    pub fn add_waiting<P, H, F>(&mut self, operation: Operation, handler: H) -> &mut Route
    where
        P: DeserializeOwned + Send + 'static,
        H: Fn(Arc<Desk>, Call, P) -> F + Send + Sync + 'static,
        F: Future<Output = ApiResult<Answer>> + Send + 'static,
    {
        self.note(&operation);
        let desk = self.desk.clone();
        let route = self
            .router
            .on_own(operation.method, operation.path, move |call, parameters: P| {
                handler(desk.clone(), call, parameters)
            });
        if operation.public { route.public() } else { route }
    }

    /// Adds the description of all that was added.
    pub fn describe(self) {
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Relight",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "What is protected, what is not, what failed, what would be lost now, and the proof.",
            },
            "servers": [{"url": "/"}],
            "security": [{"token": []}, {"ticket": []}],
            "paths": self.paths,
            "components": {
                "securitySchemes": {
                    "token": {"type": "apiKey", "in": "header", "name": "Authorization",
                        "description": "PBSAPIToken NAME@REALM!TOKEN:SECRET"},
                    "ticket": {"type": "apiKey", "in": "cookie", "name": "__Host-PBSAuthCookie"},
                    "csrf": {"type": "apiKey", "in": "header", "name": "CSRFPreventionToken"},
                },
                "schemas": schema::components(),
            },
        });
        let text = document.to_string();
        self.router
            .on_own(Method::GET, "/api/v1/openapi.json", move |_, _: NoParameters| {
                let answer = Answer::Raw {
                    content_type: "application/json;charset=UTF-8",
                    headers: http::HeaderMap::new(),
                    body: relight_pbs::service::http::Body::whole(text.clone()),
                };
                std::future::ready(Ok(answer))
            });
    }
}
