//! Starting the daemon where none runs: the one beside this program, under a lock, through the service where
//! that is installed.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    client::{Client, ConnectError},
    context::Context,
    error::CliError,
    service::{Ask, Service, Trouble},
};

/// One command at a time starts a daemon for a state folder.
const LOCK: &str = "p2pd.start.lock";
/// What a daemon says that was started here.
pub(crate) const LOG: &str = "p2pd.log";
/// A log larger than this, in bytes, makes room for a new one.
const LOG_LIMIT: u64 = 8 << 20;
/// Most bytes of a log's end that are shown.
const LOG_TAIL: u64 = 2048;
/// What a service manager tells a service, and a daemon that is started here must not take for its own.
const OF_A_SERVICE: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
/// How often the daemon is looked for while it starts.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Starts a daemon for the context's state folder and connects to it.
pub(crate) async fn start(ctx: &Context) -> Result<Client, CliError> {
    make_home(&ctx.home)?;
    let _lock = lock(ctx).await?;
    // Another command may have started it while this one waited for the lock.
    match Client::connect(&ctx.home).await {
        Err(ConnectError::NotRunning) => {}
        Ok(client) => return Ok(client),
        Err(error) => return Err(error.into()),
    }
    ctx.out.detail(&format!("no daemon runs for {}: starting one", ctx.home.display()));
    if let Some(service) = Service::of(ctx).ok().filter(Service::is_installed)
        && start_service(ctx, &service)?
    {
        return answer(ctx, || Ok(None)).await?.ok_or_else(|| {
            CliError::daemon(format!("the service {} was started and does not answer", service.name))
                .hint(see_why(ctx))
        });
    }
    start_program(ctx).await
}

fn make_home(home: &Path) -> Result<(), CliError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home).map_err(|error| {
        CliError::daemon(format!("cannot make the state folder {}: {error}", home.display()))
    })
}

/// Waits for the right to start a daemon; it ends when the file is closed, or with this process.
async fn lock(ctx: &Context) -> Result<File, CliError> {
    let path = ctx.home.join(LOCK);
    let failed =
        |error: &dyn std::fmt::Display| CliError::daemon(format!("cannot lock {}: {error}", path.display()));
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed(&error))?;
    // The one who holds it may take the whole time for its own start.
    let deadline = Instant::now() + 2 * ctx.patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(LOOK_AGAIN).await
            }
            Err(error) => {
                return Err(failed(&error).hint("another p2p seems to hang while it starts the daemon"));
            }
        }
    }
}

fn see_why(ctx: &Context) -> String {
    format!("see why with: {}", ctx.suggest("service logs"))
}

/// Starts the service; false where there is no service manager to ask.
fn start_service(ctx: &Context, service: &Service) -> Result<bool, CliError> {
    for step in service.steps(Ask::Start) {
        match step.take() {
            Ok(()) => {}
            Err(trouble @ Trouble::NoManager(_)) => {
                ctx.out.detail(&format!("{trouble}: starting the daemon without the service"));
                return Ok(false);
            }
            Err(trouble) => {
                let words = format!("the service {} does not start: {trouble}", service.name);
                return Err(CliError::daemon(words).hint(see_why(ctx)));
            }
        }
    }
    Ok(true)
}

async fn start_program(ctx: &Context) -> Result<Client, CliError> {
    let log = Log::open(&ctx.home)?;
    let mut child = log.spawn(ctx)?;
    let connected = answer(ctx, || child.try_wait()).await?;
    if let Some(client) = connected {
        // The daemon outlives this command; whoever waits for its end is not this one.
        return Ok(client);
    }
    let what = match child.try_wait() {
        Ok(Some(status)) => format!("the daemon did not start ({})", end_of(status)),
        _ => format!("the daemon (process {}) does not answer", child.id()),
    };
    let said = log.said();
    let message = if said.is_empty() { what } else { format!("{what}; it says:\n{said}") };
    Err(CliError::daemon(message).hint(format!("its log: {}", log.path.display())))
}

fn end_of(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

/// Waits until the daemon answers; `None` when it ended, or the time is over.
pub(crate) async fn answer(
    ctx: &Context,
    mut ended: impl FnMut() -> io::Result<Option<ExitStatus>>,
) -> Result<Option<Client>, CliError> {
    let deadline = Instant::now() + ctx.patience;
    loop {
        let over = matches!(ended(), Ok(Some(_))) || Instant::now() >= deadline;
        match Client::connect(&ctx.home).await {
            Ok(client) => return Ok(Some(client)),
            // Seen after its end, the answer is final: where a daemon of someone else's won, it has answered.
            Err(ConnectError::NotRunning) if over => return Ok(None),
            Err(ConnectError::NotRunning) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The log of a daemon that is started here.
struct Log {
    path: PathBuf,
    file: File,
    /// Where this daemon's words begin.
    start: u64,
}

impl Log {
    fn open(home: &Path) -> Result<Self, CliError> {
        let path = home.join(LOG);
        if std::fs::metadata(&path).is_ok_and(|log| log.len() > LOG_LIMIT) {
            // Only a log is lost if this fails.
            let _ = std::fs::rename(&path, home.join("p2pd.log.old"));
        }
        let opened = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&path);
        let file =
            opened.map_err(|error| CliError::daemon(format!("cannot open {}: {error}", path.display())))?;
        let start = file.metadata().map_or(0, |log| log.len());
        Ok(Self { path, file, start })
    }

    /// Starts the daemon in a process group of its own, so that this terminal's Ctrl-C does not reach it.
    fn spawn(&self, ctx: &Context) -> Result<Child, CliError> {
        let failed = |error: io::Error| {
            CliError::daemon(format!("cannot start {}: {error}", ctx.program.display()))
                .hint("p2pd must lie beside p2p; install both in one folder")
        };
        let mut command = Command::new(&ctx.program);
        for name in OF_A_SERVICE {
            command.env_remove(name);
        }
        command
            .arg("--home")
            .arg(&ctx.home)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(self.file.try_clone().map_err(failed)?)
            .stderr(self.file.try_clone().map_err(failed)?)
            .process_group(0)
            .spawn()
            .map_err(failed)
    }

    /// The end of what the daemon said, for people.
    fn said(&self) -> String {
        tail(&self.path, self.start).unwrap_or_default()
    }
}

/// The end of what a log holds from there on, without colours.
pub(crate) fn tail(path: &Path, start: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = start.max(file.metadata()?.len().saturating_sub(LOG_TAIL));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Captured, context, global};

    fn program(ctx: &mut Context, script: &str) {
        let path = ctx.home.parent().unwrap().join("p2pd");
        // A copy of the shell's script is written in another process, so that no descriptor of this one is
        // open for writing when it is executed.
        let status = Command::new("sh")
            .args(["-c", "printf '%s' \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", script])
            .arg(&path)
            .status();
        assert!(status.unwrap().success());
        ctx.program = path;
    }

    #[tokio::test]
    async fn a_daemon_that_ends_at_once_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let captured = Captured::default();
        let mut ctx = context(&folder.path().join("home"), captured.output(&global(&[])));
        program(&mut ctx, "#!/bin/sh\necho \"identity.pem is damaged: $1\" >&2\nexit 1\n");
        let error = start(&ctx).await.unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert_eq!(
            error.message,
            "the daemon did not start (exit code 1); it says:\nidentity.pem is damaged: --home"
        );
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let captured = Captured::default();
        let mut ctx = context(&folder.path().join("home"), captured.output(&global(&[])));
        ctx.program = folder.path().join("p2pd");
        let error = ctx.connect_or_start().await.unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.message.contains("p2pd"), "{error}");
        ctx.may_start = false;
        assert!(ctx.connect_or_start().await.unwrap_err().message.contains("--no-start"));
        assert_eq!(ctx.connect().await.unwrap_err().exit_code(), 3);
    }
}
