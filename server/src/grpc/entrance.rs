//! The entrance of all calls: a call for which a login is needed goes no further without one, before anything of its body
//! is read.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tower::{Layer, Service};

use super::budget::Budget;
use super::gate::Gate;

/// Calls of our services need a login. Health and reflection do not.
const OURS: &str = "/leveret.v1.";

/// Puts the entrance before a service.
#[derive(Debug, Clone)]
pub(super) struct EntranceLayer {
    pub(super) gate: Gate,
    pub(super) budget: Budget,
}

impl<S> Layer<S> for EntranceLayer {
    type Service = Entrance<S>;

    fn layer(&self, inner: S) -> Entrance<S> {
        Entrance { inner, gate: self.gate.clone(), budget: self.budget.clone() }
    }
}

/// A service with the entrance before it.
#[derive(Debug, Clone)]
pub(super) struct Entrance<S> {
    inner: S,
    gate: Gate,
    budget: Budget,
}

impl<S> Service<http::Request<Body>> for Entrance<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The one that was ready is taken along.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        if !request.uri().path().starts_with(OURS) {
            return Box::pin(inner.call(self.budget.wrap_of_anybody(request)));
        }
        let (gate, budget) = (self.gate.clone(), self.budget.clone());
        Box::pin(async move {
            match gate.log_in(request.headers(), request.extensions()).await {
                Ok(login) => {
                    request.extensions_mut().insert(login);
                    inner.call(budget.wrap(request)).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
