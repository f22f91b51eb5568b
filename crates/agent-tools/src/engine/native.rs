//! The native engine as a session uses it.

use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use policy::{Access, CreationRules, Unenforced, Verdict};
use sandbox_core::{
    AttachedCommand, AttachedEvent, CommandOutput, CommandSpec, EngineReport, ExecError,
    NativeSandbox, NetworkError, NetworkListeners, OpenError, Overlay, PseudoTerminal, Quarantined,
    Sandbox, SessionDir, TerminalSize,
};

use super::{Engine, RunningCommand, Watch, WrappedObserver};
use crate::session::Stop;

#[async_trait]
impl Engine for NativeSandbox {
    fn report(&self) -> &EngineReport {
        Sandbox::report(self)
    }

    async fn exec(
        &self,
        command: CommandSpec,
        stop: Stop,
        watch: &Watch<'_>,
    ) -> Result<CommandOutput, ExecError> {
        self.exec_watched(command, stop.requested(), watch).await
    }

    async fn start(
        &self,
        command: &CommandSpec,
        streams: [BorrowedFd<'_>; 3],
    ) -> Result<Box<dyn RunningCommand>, ExecError> {
        Ok(Box::new(self.start(command, streams).await?))
    }

    async fn start_in_terminal(
        &self,
        command: &CommandSpec,
        size: TerminalSize,
    ) -> Result<(Box<dyn RunningCommand>, PseudoTerminal), ExecError> {
        let (command, terminal) = self.start_in_terminal(command, size).await?;
        Ok((Box::new(command), terminal))
    }

    fn wrap_command(&self, command: &CommandSpec) -> Result<String, ExecError> {
        self.wrap_command(command)
    }

    fn observe_wrapped_commands(&self, observer: WrappedObserver) {
        self.observe_wrapped_commands(observer);
    }

    fn runs_wrapped_commands(&self) -> bool {
        self.runs_wrapped_commands()
    }

    async fn check_running(&self) -> Vec<Quarantined> {
        self.check_running().await
    }

    fn kill(&self, reason: &'static str) {
        self.kill(reason);
    }

    async fn close(&self) {
        Sandbox::close(self).await;
    }

    fn allows(&self, path: &Path, access: Access) -> bool {
        self.allows(path, access)
    }

    fn explain(&self, path: &Path, access: Access) -> Verdict {
        self.explain(path, access)
    }

    fn restricted_below(&self, path: &Path) -> Option<PathBuf> {
        self.restricted_below(path)
    }

    fn protected_inside(&self, dir: &Path) -> Option<PathBuf> {
        self.protected_inside(dir)
    }

    fn creation_rules(&self) -> Option<CreationRules> {
        self.creation_rules()
    }

    fn affects_policy(&self, path: &Path) -> bool {
        self.affects_policy(path)
    }

    fn unenforced(&self) -> Vec<Unenforced> {
        self.unenforced()
    }

    fn refresh(&self) -> Result<(), OpenError> {
        self.refresh()
    }

    async fn reserve(&self, bytes: u64, files: u64) -> bool {
        self.reserve(bytes, files).await
    }

    fn temporary_dir(&self) -> &Path {
        self.temporary_dir()
    }

    fn own_tmp(&self) -> Option<&SessionDir> {
        self.own_tmp()
    }

    fn shell(&self) -> &Path {
        self.shell()
    }

    fn overlays(&self) -> &[Overlay] {
        self.overlays()
    }

    async fn open_network(&self, ports: &[u16]) -> Result<NetworkListeners, NetworkError> {
        self.open_network(ports).await
    }

    async fn dial(&self, port: u16) -> Result<TcpStream, NetworkError> {
        self.dial(port).await
    }
}

#[async_trait]
impl RunningCommand for AttachedCommand {
    fn signal(&mut self, number: i32) {
        self.signal(number);
    }

    fn kill(&mut self) {
        self.kill();
    }

    fn extend_linger(&mut self) {
        self.extend_linger();
    }

    async fn next_event(&mut self) -> Result<AttachedEvent, ExecError> {
        self.next_event().await
    }
}
