//! The gate: one for each process, with the parts that all sessions share.

use std::sync::Arc;

use policy::NetworkPolicy;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::error::GateError;
use crate::event::EventSink;
use crate::limits::Limits;
use crate::listeners::Listeners;
use crate::network::Network;
use crate::resolve::{Resolver, SystemResolver};
use crate::session::{Session, Shared};

/// The way of many sessions to the network, each with its own listeners and policy.
#[derive(Clone, Debug)]
pub struct Gate {
    shared: Arc<Shared>,
}

/// Settings of a [`Gate`].
#[derive(Clone, Debug)]
pub struct GateBuilder {
    resolver: Arc<dyn Resolver>,
    limits: Limits,
}

impl Gate {
    /// Returns the default settings: the resolver of the system, and [`Limits::default`].
    pub fn builder() -> GateBuilder {
        GateBuilder { resolver: Arc::new(SystemResolver::new()), limits: Limits::default() }
    }

    /// Opens the network of one session. Its tasks run on the current tokio runtime and in the
    /// current span of `tracing`, until the result is dropped or closed.
    ///
    /// # Errors
    /// Returns [`GateError`] outside a tokio runtime, and for a descriptor that is no listener of
    /// its kind.
    pub fn open(
        &self,
        listeners: Listeners,
        policy: NetworkPolicy,
        sink: Arc<dyn EventSink>,
    ) -> Result<Network, GateError> {
        Handle::try_current().map_err(|_| GateError::NoRuntime)?;
        let listeners = listeners.open()?;
        let session = Arc::new(Session::new(Arc::clone(&self.shared), policy, sink));
        Ok(Network::open(session, listeners))
    }
}

impl GateBuilder {
    /// Replaces the resolver.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Replaces the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Creates the gate.
    ///
    /// # Errors
    /// Returns [`GateError::Limit`] for an impossible limit.
    pub fn build(self) -> Result<Gate, GateError> {
        if let Some(name) = self.limits.invalid() {
            return Err(GateError::Limit { name });
        }
        let connections = Arc::new(Semaphore::new(self.limits.connections_of_process()));
        let Self { resolver, limits } = self;
        Ok(Gate { shared: Arc::new(Shared { resolver, limits, connections }) })
    }
}
