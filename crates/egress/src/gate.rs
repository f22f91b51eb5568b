//! The gate: one for each process, with the parts that all sessions share.

use std::sync::Arc;

use crate::connections::Connections;
use crate::error::GateError;
use crate::event::EventSink;
use crate::limits::Limits;
use crate::listeners::Listeners;
use crate::network::Network;
use crate::parent::ParentProxy;
use crate::resolve::{Resolver, SystemResolver};
use crate::secure::Secure;
use crate::session::{Session, Shared};
use crate::trust::Trust;
use policy::NetworkPolicy;
use tokio::runtime::Handle;

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
    roots: Option<Vec<u8>>,
    extra_roots: Vec<u8>,
    parent_proxy: Option<ParentProxy>,
}

impl Gate {
    /// Returns the default settings: the resolver and the trusted certificates of the system, and
    /// [`Limits::default`].
    pub fn builder() -> GateBuilder {
        GateBuilder {
            resolver: Arc::new(SystemResolver::new()),
            limits: Limits::default(),
            roots: None,
            extra_roots: Vec::new(),
            parent_proxy: None,
        }
    }

    /// Returns what a session needs to trust the authority of the gate. Each gate has an authority
    /// of its own, whose key never leaves the process.
    pub fn trust(&self) -> &Trust {
        &self.shared.secure.trust
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

    /// Replaces the certificates, in PEM, that servers are verified against where TLS is
    /// terminated. The default is those of the system, in the environment of this process.
    #[must_use]
    pub fn roots(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// Adds certificates, in PEM, to those that servers are verified against.
    #[must_use]
    pub fn extra_roots(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.extra_roots.extend_from_slice(pem.as_ref());
        self
    }

    /// Sends all connections through another proxy, unless a session has its own
    /// ([`Network::set_parent_proxy`]).
    #[must_use]
    pub fn parent_proxy(mut self, proxy: ParentProxy) -> Self {
        self.parent_proxy = Some(proxy);
        self
    }

    /// Creates the gate.
    ///
    /// # Errors
    /// Returns [`GateError`] for an impossible limit, for certificates that are not PEM, and if the
    /// authority cannot be created.
    pub fn build(self) -> Result<Gate, GateError> {
        if let Some(name) = self.limits.invalid() {
            return Err(GateError::Limit { name });
        }
        let connections = Arc::new(Connections::new(self.limits.connections_of_process()));
        let Self { resolver, limits, roots, extra_roots, parent_proxy } = self;
        let secure = Secure::new(&limits, roots.as_deref(), &extra_roots)?;
        let parent = parent_proxy.map(Arc::new);
        Ok(Gate { shared: Arc::new(Shared { resolver, limits, secure, parent, connections }) })
    }
}
