//! The shell of a command: a child that takes the command's streams and directory, and executes
//! bash.

use crate::prestart::Prestart;
use crate::reply::Reply;
use crate::sys::{self, CStr, Errno, Fd, Result, c};
use crate::terminal::Terminal;
use crate::tier::Tier;
use crate::wire;

/// One command, and the start conditions of its shell.
pub struct Request<'r> {
    pub shell: CStr<'r>,
    pub directory: CStr<'r>,
    pub command: CStr<'r>,
    /// The variables, and room for one of a prestarted shell and for the null at the end.
    pub variables: &'r mut [*const u8],
    pub count: usize,
    /// Standard input, output and error, then the command's channel.
    pub fds: &'r [Fd],
    /// `COMMAND_…` flags.
    pub flags: u32,
    /// One of the standard streams.
    pub terminal: Option<Terminal>,
}

impl Request<'_> {
    pub fn channel(&self) -> Fd {
        self.fds[3]
    }

    /// Starts the shell with its command, or with a blank text if the command is deferred.
    pub fn start(
        &mut self,
        tier: &Tier,
        prestart: Option<&Prestart>,
        stack: &mut [u8],
    ) -> Result<i32> {
        sys::start_sharing(stack, become_shell, &mut Shell { request: self, tier, prestart })
    }

    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Closes the worker's copies of the shell's streams, except of its terminal.
    pub fn close_streams(&self) {
        let terminal = self.terminal.as_ref().map(Terminal::fd);
        for fd in self.fds[..3].iter().filter(|fd| Some(**fd) != terminal) {
            sys::close(*fd);
        }
    }
}

/// Data of the child until it executes the shell.
struct Shell<'s, 'r> {
    request: &'s mut Request<'r>,
    tier: &'s Tier,
    prestart: Option<&'s Prestart>,
}

/// Size of the child's stack, several times what `become_shell` uses.
pub const STACK_BYTES: usize = 64 * 1024;

/// Turns the child into the shell, or reports the failure on the command's channel. The child
/// shares the worker's memory, so it changes nothing there except its own stack and `Shell`.
extern "C" fn become_shell(Shell { request, tier, prestart }: &mut Shell<'_, '_>) -> ! {
    let prestart = *prestart;
    let channel = request.channel();
    let mut start = || -> core::result::Result<Errno, (u32, Errno)> {
        match &request.terminal {
            Some(terminal) => terminal
                .enter(request.has(wire::COMMAND_IN_FOREGROUND))
                .map_err(|errno| (wire::RESULT_BAD_REQUEST, errno))?,
            None => sys::new_terminal_session(),
        }
        sys::chdir(request.directory).map_err(|errno| (wire::RESULT_NO_DIRECTORY, errno))?;
        // Init keeps 0, 1 and 2 open, so no descriptor of the message is one of them.
        for (to, fd) in request.fds[..3].iter().enumerate() {
            let own = tier.open_own_device(*fd);
            own.and_then(|own| sys::dup_to(own.unwrap_or(*fd), to as Fd))
                .map_err(|errno| (wire::RESULT_BAD_REQUEST, errno))?;
        }
        sys::unblock_signals();
        tier.enter_command().map_err(|errno| (wire::RESULT_BAD_REQUEST, errno))?;
        let mut command = request.command;
        let mut variable = core::ptr::null();
        if let Some(prestart) = prestart {
            prestart.enter().map_err(|errno| (wire::RESULT_BAD_REQUEST, errno))?;
            command = prestart.blank();
            variable = prestart.variable().as_ptr();
        }
        // An earlier attempt to start a shell may have set it in the worker's memory.
        request.variables[request.count] = variable;
        let arguments =
            [c(b"bash\0").as_ptr(), c(b"-c\0").as_ptr(), command.as_ptr(), core::ptr::null()];
        Ok(sys::execute(request.shell, &arguments, request.variables))
    };
    let (kind, errno) = match start() {
        Ok(errno) => (wire::RESULT_NO_SHELL, errno),
        Err(failure) => failure,
    };
    // After a failed prestart the worker starts another shell, which then reports.
    if prestart.is_none() {
        let value = errno.0 as u32;
        let reply = Reply { kind, value, limit: wire::LIMIT_NONE, unroutable: 0, creations: 0 };
        reply.send(channel);
    }
    sys::exit(127)
}
