//! The server of a session: it runs the calls of other processes.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sandbox_core::internal::LocalListener;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::file_methods::{
    CreateDirectory, DeleteDirectory, DeleteFile, ExportTar, ImportTar, InspectFile, ListDirectory,
    ReadRange, RenameFile,
};
use super::fingerprint::{Fingerprint, Settings};
use super::frame::{Channel, Frame};
use super::gate::{CallGuard, Gate, NotAdmitted};
use super::greeting::{HELLO, Hello, SessionFacts, Welcome};
use super::methods::{
    Bash, Call, CallFailure, Close, CollectGarbage, Delete, EditFile, FindFiles, InstallSkills,
    Pull, ReadFile, ReadHistory, Refresh, ReportStatus, RestoreVersion, STOP, SearchFiles,
    SetNetwork, SyncFiles, UndeleteFiles, WrapCommand, WriteFile,
};
use super::network_methods::DialPort;
use super::opening::Door;
use super::process::{FIND_PROCESS, ListProcesses, SPAWN_PROCESS};
use super::token::Token;
use super::wire::{Rejection, answer};
use crate::session::{LocalSession, Stopper};

/// The time in which a client must send its hello and accept an answer.
pub(super) const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, for example because descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves a session with these settings until its gate ends. Does not keep the session open.
pub(crate) fn serve(session: &Arc<LocalSession>, door: Door, settings: &Settings<'_>) {
    let Door { listener, token } = door;
    let server = Arc::new(Server {
        session: Arc::downgrade(session),
        gate: Arc::clone(&session.gate),
        settings: Fingerprint::new(&token, settings),
        token,
    });
    tokio::spawn(accept(listener, server));
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) session: Weak<LocalSession>,
    pub(super) gate: Arc<Gate>,
    token: Token,
    settings: Fingerprint,
}

async fn accept(listener: LocalListener, server: Arc<Server>) {
    loop {
        let accepted = tokio::select! {
            () = server.gate.ended() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok(stream) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let channel = Channel::new(stream);
            if let Err(error) = server.converse(&channel).await {
                tracing::debug!("a client of the session broke off: {error}");
            }
        });
    }
}

impl Server {
    async fn converse(&self, channel: &Channel) -> io::Result<()> {
        if let Some(rejection) = self.greet(channel).await? {
            return self.reject(channel, 0, rejection).await;
        }
        loop {
            let frame = tokio::select! {
                () = self.gate.ended() => return Ok(()),
                frame = channel.receive() => frame,
            };
            let frame = match frame {
                Err(error) if is_invalid(&error) => {
                    return self.reject(channel, 0, invalid(&error)).await;
                }
                frame => frame?,
            };
            let Some(mut frame) = frame else { return Ok(()) };
            let id = frame.id;
            let rejection = match frame.method {
                SPAWN_PROCESS => self.run_process(channel, frame).await?,
                FIND_PROCESS => self.show_process(channel, frame).await?,
                _ => self.dispatch(channel, &mut frame).await?,
            };
            if let Some(rejection) = rejection {
                return self.reject(channel, id, rejection).await;
            }
        }
    }

    /// Answers the hello of a client. Returns the reason if the client is rejected.
    async fn greet(&self, channel: &Channel) -> io::Result<Option<Rejection>> {
        if let Err(error) = channel.stream().peer() {
            return Ok(Some(Rejection::Peer(sandbox_core::with_causes(&error))));
        }
        let frame = match timeout(CLIENT_TIMEOUT, channel.receive()).await? {
            Err(error) if is_invalid(&error) => return Ok(Some(invalid(&error))),
            frame => frame?,
        };
        let Some(frame) = frame else { return Ok(None) };
        if frame.method != HELLO {
            return Ok(Some(Rejection::UnknownMethod(frame.method)));
        }
        let hello: Hello = match frame.parse() {
            Ok(hello) => hello,
            Err(error) => return Ok(Some(invalid(&error))),
        };
        if !hello.proves(&self.token) {
            return Ok(Some(Rejection::Peer("the token is wrong".to_owned())));
        }
        // The guard keeps the session open until the welcome is sent.
        let _guard = match self.gate.begin() {
            Ok(guard) => guard,
            Err(refusal) => return Ok(Some(Rejection::Gate(refusal))),
        };
        // A session that another home took over ends here.
        let session = self.session.upgrade().filter(|session| !session.workspace.is_lost());
        let Some(session) = session else {
            return Ok(Some(Rejection::Gate(NotAdmitted::Draining)));
        };
        let mut facts = SessionFacts::of(&session);
        if let Some(settings) = &hello.settings {
            if !self.settings.has_user_of(settings) {
                return Ok(Some(Rejection::WrongUser));
            }
            let own = self.settings.with_network(&self.token, &session.network.rules());
            let differences = own.differences(settings, session.policy());
            if !differences.is_empty() {
                return Ok(Some(Rejection::Differs(differences)));
            }
            facts.warnings.extend(self.settings.warnings(settings));
        }
        let welcome = Frame::new(answer::WELCOME, frame.id, &Welcome::from(facts))?;
        timeout(CLIENT_TIMEOUT, channel.send(&welcome)).await??;
        Ok(None)
    }

    async fn reject(&self, channel: &Channel, id: u64, rejection: Rejection) -> io::Result<()> {
        let frame = Frame::new(answer::REFUSED, id, &rejection)?;
        timeout(CLIENT_TIMEOUT, channel.send(&frame)).await??;
        if let Rejection::Gate(_) = rejection {
            // The client waits for the end of the connection, and then tries the lock.
            tokio::select! {
                () = self.gate.ended() => {}
                _ = channel.receive() => {}
            }
        }
        Ok(())
    }

    async fn dispatch(
        &self,
        channel: &Channel,
        frame: &mut Frame,
    ) -> io::Result<Option<Rejection>> {
        match frame.method {
            Bash::METHOD => self.run::<Bash<'static>>(channel, frame).await,
            ReadFile::METHOD => self.run::<ReadFile<'static>>(channel, frame).await,
            WriteFile::METHOD => self.run::<WriteFile<'static>>(channel, frame).await,
            SyncFiles::METHOD => self.run::<SyncFiles>(channel, frame).await,
            Refresh::METHOD => self.run::<Refresh>(channel, frame).await,
            Pull::METHOD => self.run::<Pull<'static>>(channel, frame).await,
            Close::METHOD => self.run::<Close>(channel, frame).await,
            ReportStatus::METHOD => self.run::<ReportStatus>(channel, frame).await,
            Delete::METHOD => self.run::<Delete>(channel, frame).await,
            WrapCommand::METHOD => self.run::<WrapCommand<'static>>(channel, frame).await,
            ReadHistory::METHOD => self.run::<ReadHistory<'static>>(channel, frame).await,
            RestoreVersion::METHOD => self.run::<RestoreVersion<'static>>(channel, frame).await,
            UndeleteFiles::METHOD => self.run::<UndeleteFiles>(channel, frame).await,
            CollectGarbage::METHOD => self.run::<CollectGarbage>(channel, frame).await,
            InstallSkills::METHOD => self.run::<InstallSkills>(channel, frame).await,
            SetNetwork::METHOD => self.run::<SetNetwork>(channel, frame).await,
            DialPort::METHOD => self.run::<DialPort>(channel, frame).await,
            InspectFile::METHOD => self.run::<InspectFile<'static>>(channel, frame).await,
            ListDirectory::METHOD => self.run::<ListDirectory<'static>>(channel, frame).await,
            ReadRange::METHOD => self.run::<ReadRange<'static>>(channel, frame).await,
            CreateDirectory::METHOD => self.run::<CreateDirectory<'static>>(channel, frame).await,
            RenameFile::METHOD => self.run::<RenameFile<'static>>(channel, frame).await,
            DeleteFile::METHOD => self.run::<DeleteFile<'static>>(channel, frame).await,
            DeleteDirectory::METHOD => self.run::<DeleteDirectory<'static>>(channel, frame).await,
            ExportTar::METHOD => self.run::<ExportTar<'static>>(channel, frame).await,
            ImportTar::METHOD => self.run::<ImportTar<'static>>(channel, frame).await,
            ListProcesses::METHOD => self.run::<ListProcesses>(channel, frame).await,
            EditFile::METHOD => self.run::<EditFile<'static>>(channel, frame).await,
            FindFiles::METHOD => self.run::<FindFiles<'static>>(channel, frame).await,
            SearchFiles::METHOD => self.run::<SearchFiles<'static>>(channel, frame).await,
            unknown => Ok(Some(Rejection::UnknownMethod(unknown))),
        }
    }

    /// Admits a call to the session.
    pub(super) fn admit(&self) -> Result<(CallGuard, Arc<LocalSession>), NotAdmitted> {
        let guard = self.gate.begin()?;
        let session = self.session.upgrade().ok_or(NotAdmitted::Draining)?;
        Ok((guard, session))
    }

    /// Runs a call and sends its output. Cancels the call if the client closes the connection.
    async fn run<C: Call + DeserializeOwned>(
        &self,
        channel: &Channel,
        frame: &mut Frame,
    ) -> io::Result<Option<Rejection>> {
        let mut call: C = match frame.parse() {
            Ok(call) => call,
            Err(error) => return Ok(Some(invalid(&error))),
        };
        call.attach(std::mem::take(&mut frame.descriptors));
        let (guard, session) = match self.admit() {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(Some(Rejection::Gate(refusal))),
        };
        if matches!(C::METHOD, Close::METHOD | Delete::METHOD)
            && let Ok(peer) = channel.stream().peer()
        {
            session.announce_leaving(peer.pid());
        }
        channel.send(&Frame::new(answer::ACCEPTED, frame.id, &())?).await?;
        let stopper = Stopper::default();
        call.end_after(stopper.request());
        let output = {
            let mut running = pin!(call.run_on(&session));
            loop {
                tokio::select! {
                    output = &mut running => break output,
                    // The client sends nothing else while it waits.
                    received = channel.receive() => match received? {
                        Some(frame) if frame.method == STOP => stopper.stop(),
                        _ => return Err(io::ErrorKind::ConnectionAborted.into()),
                    },
                }
            }
        };
        let answer = match output {
            Ok(output) => Frame::new(answer::DONE, frame.id, &output)?,
            Err(error) => Frame::new(answer::FAILED, frame.id, &error.to_failure())?,
        };
        timeout(CLIENT_TIMEOUT, channel.send(&answer)).await??;
        // The owner waits for the guard, and then releases the session.
        drop(session);
        drop(guard);
        Ok(None)
    }
}

/// Returns whether a client sent a frame of another format.
fn is_invalid(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

pub(super) fn invalid(error: &io::Error) -> Rejection {
    Rejection::Invalid(error.to_string())
}
