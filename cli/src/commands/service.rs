//! `p2p service`: the daemon as a service of its user.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use p2p_protocol::{
    control::{Event, Request, Status},
    reason::Failure,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::{
    args,
    client::{Client, ConnectError},
    context::Context,
    error::CliError,
    json::{Line, ServiceLine, Written},
    output::Look,
    service::{Ask, Service, State, Step, Trouble, no_manager},
    start::{self, LOOK_AGAIN},
};

/// Held by a daemon for as long as it runs, with its process number in it.
const DAEMON_LOCK: &str = "p2pd.lock";
/// Settings of this terminal's that a service does not see.
const OF_A_TERMINAL: [&str; 5] = ["P2P_LISTEN", "P2P_INBOX", "P2P_CONFIG", "P2P_LOG", "P2P_DEBUGGABLE"];

impl From<Trouble> for CliError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::NoManager(_) => no_manager(trouble.to_string()),
            Trouble::Failed { .. } => Self::daemon(trouble.to_string()),
            Trouble::File { what, path, source } => Self::io(&format!("cannot {what}"), &path, &source),
        }
    }
}

pub(crate) async fn run(ctx: &Context, command: args::Service) -> Result<(), CliError> {
    let service = Service::of(ctx)?;
    match command {
        args::Service::Install { dry_run } => install(ctx, &service, dry_run).await,
        args::Service::Uninstall { dry_run } => uninstall(ctx, &service, dry_run).await,
        args::Service::Start => begin(ctx, &service, Ask::Start).await,
        args::Service::Restart => begin(ctx, &service, Ask::Restart).await,
        args::Service::Stop => stop(ctx, &service).await,
        args::Service::Status => status(ctx, &service).await,
        args::Service::Logs { lines, follow } => logs(ctx, &service, lines, follow),
    }
}

async fn install(ctx: &Context, service: &Service, dry_run: bool) -> Result<(), CliError> {
    let before = if service.packaged { None } else { std::fs::read_to_string(&service.file).ok() };
    let changed = !service.packaged && before.as_deref() != Some(&service.text());
    let steps = service.steps(Ask::Install { changed });
    if dry_run {
        return show(ctx, &steps);
    }
    // Before anything is written: whether there is a manager, and something to manage.
    let state = service.state()?;
    if !ctx.program.is_file() {
        return Err(CliError::daemon(format!("there is no {}", ctx.program.display()))
            .hint("p2pd must lie beside p2p; install both in one folder"));
    }
    if state.active != Some(true) {
        make_way(ctx).await?;
    }
    take(ctx, &steps)?;
    let running = answering(ctx, service).await?;
    let file = service.file.display();
    match (&before, changed) {
        (None, true) => ctx.out.say(&format!("wrote {file}")),
        (Some(_), true) => ctx.out.say(&format!("replaced {file}, which was another")),
        (_, false) => ctx.out.say(&format!("{file} is as it should be")),
    }
    let pid = running.pid;
    let good = format!("{} runs (process {pid}), and from now on whenever you log in", service.name);
    ctx.out.say_as(Look::Good, "", &good);
    ctx.out.say(&format!("undo it with: {}", ctx.suggest("service uninstall")));
    let unseen = OF_A_TERMINAL
        .into_iter()
        .filter(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    for name in unseen {
        let words = format!(
            "{name} is set here, and the service does not see it; what it says belongs into config.toml"
        );
        ctx.out.say_as(Look::Warning, "note: ", &words);
    }
    if let Some(advice) = service.advice() {
        ctx.out.say_as(Look::Warning, "note: ", &advice);
    }
    tell(ctx, service, &service.state()?, Some(&running))
}

async fn uninstall(ctx: &Context, service: &Service, dry_run: bool) -> Result<(), CliError> {
    let steps = service.steps(Ask::Uninstall);
    if dry_run {
        return show(ctx, &steps);
    }
    service.reach_manager()?;
    if service.is_installed() {
        take(ctx, &steps)?;
        ctx.out.say(&format!("{} has stopped, and starts no more at login", service.name));
        if !service.packaged {
            ctx.out.say(&format!("removed {}", service.file.display()));
        }
    } else {
        ctx.out.say(&format!("{} is not installed: there is nothing to undo", service.name));
    }
    tell(ctx, service, &State { active: Some(false), word: None }, None)
}

/// Starts it, anew or if it does not run.
async fn begin(ctx: &Context, service: &Service, ask: Ask) -> Result<(), CliError> {
    installed(ctx, service)?;
    if service.state()?.active != Some(true) {
        make_way(ctx).await?;
    }
    take(ctx, &service.steps(ask))?;
    let running = answering(ctx, service).await?;
    ctx.out.say_as(Look::Good, "", &format!("{} runs (process {})", service.name, running.pid));
    tell(ctx, service, &service.state()?, Some(&running))
}

async fn stop(ctx: &Context, service: &Service) -> Result<(), CliError> {
    installed(ctx, service)?;
    take(ctx, &service.steps(Ask::Stop))?;
    ctx.out.say(&format!(
        "{} has stopped; it starts again at login, with {}, or when a command needs it",
        service.name,
        ctx.suggest("service start")
    ));
    tell(ctx, service, &service.state()?, None)
}

async fn status(ctx: &Context, service: &Service) -> Result<(), CliError> {
    service.reach_manager()?;
    let is_installed = service.is_installed();
    let state = if is_installed { service.state()? } else { State::default() };
    let running = asked(ctx).await;
    tell(ctx, service, &state, running.as_ref())?;
    ctx.out.print(&format!("{} ({})", service.name, service.manager.word()))?;
    let file = if is_installed { service.file.display().to_string() } else { "not installed".to_owned() };
    ctx.out.print(&format!("  file     {file}"))?;
    if let Some(word) = &state.word {
        ctx.out.print(&format!("  state    {word}"))?;
    }
    let daemon = match &running {
        Some(status) => format!("p2pd {}, process {}", status.version, status.pid),
        None => "does not answer".to_owned(),
    };
    ctx.out.print(&format!("  daemon   {daemon}"))?;
    installed(ctx, service)?;
    if state.active == Some(false) || running.is_none() {
        return Err(CliError::daemon(format!("{} does not run", service.name))
            .hint(format!("start it with: {}", ctx.suggest("service start")))
            .hint(format!("see what it said last with: {}", ctx.suggest("service logs"))));
    }
    Ok(())
}

fn logs(ctx: &Context, service: &Service, lines: u32, follow: bool) -> Result<(), CliError> {
    installed(ctx, service)?;
    let words = service.logs(lines, follow);
    let (program, rest) =
        words.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    let failed = |error: std::io::Error| CliError::daemon(format!("cannot run {program}: {error}"));
    let mut child = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let said = child.stdout.take().map(BufReader::new);
    let shown = said.into_iter().flat_map(BufRead::lines).map_while(Result::ok).try_for_each(|line| {
        ctx.out.json(&Line::Log { line: &line })?;
        ctx.out.print(&line)
    });
    if shown.is_err() {
        // Whoever wanted the lines has gone.
        let _ = child.kill();
    }
    let ended = child.wait().map_err(failed)?;
    shown?;
    if ended.success() { Ok(()) } else { Err(CliError::daemon(format!("{program} failed: {ended}"))) }
}

fn installed(ctx: &Context, service: &Service) -> Result<(), CliError> {
    service.reach_manager()?;
    if service.is_installed() {
        return Ok(());
    }
    Err(CliError::new(Failure::NotFound, format!("{} is not installed", service.name))
        .hint(format!("install it with: {}", ctx.suggest("service install"))))
}

fn take(ctx: &Context, steps: &[Step]) -> Result<(), CliError> {
    for step in steps {
        if let Step::Run(words) | Step::Try(words) = step {
            ctx.out.detail(&words.join(" "));
        }
        step.take().map_err(|trouble| {
            let hint = matches!(trouble, Trouble::Failed { .. })
                .then(|| format!("see what it said last with: {}", ctx.suggest("service logs")));
            hint.into_iter().fold(CliError::from(trouble), CliError::hint)
        })?;
    }
    Ok(())
}

/// What would be done.
fn show(ctx: &Context, steps: &[Step]) -> Result<(), CliError> {
    let (mut writes, mut removes, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Write(path, text) => {
                ctx.out.print(&format!("would write {}:", path.display()))?;
                text.lines()
                    .try_for_each(|line| ctx.out.print(&format!("    {}", line.replace('\t', "    "))))?;
                writes.push(Written { path: path.display().to_string(), text });
            }
            Step::Remove(path) => {
                ctx.out.print(&format!("would remove {}", path.display()))?;
                removes.push(path.display().to_string());
            }
            Step::Run(words) | Step::Try(words) => {
                let command = words.join(" ");
                ctx.out.print(&format!("would run {command}"))?;
                runs.push(command);
            }
        }
    }
    ctx.out.json(&Line::ServicePlan { writes, removes, runs })
}

fn tell(ctx: &Context, service: &Service, state: &State, running: Option<&Status>) -> Result<(), CliError> {
    ctx.out.json(&Line::Service(ServiceLine {
        manager: service.manager.word(),
        name: &service.name,
        file: &service.file.display().to_string(),
        installed: service.is_installed(),
        state: state.word.as_deref(),
        pid: running.map(|status| status.pid),
        version: running.map(|status| status.version.as_str()),
    }))
}

/// What the daemon says of itself, if it answers.
async fn asked(ctx: &Context) -> Option<Status> {
    let client = Client::connect(&ctx.home).await.ok()?;
    match client.ask_all(&Request::Status).await.ok()?.pop() {
        Some(Event::Status(status)) => Some(status),
        _ => None,
    }
}

/// The same of one that has just been started.
async fn answering(ctx: &Context, service: &Service) -> Result<Status, CliError> {
    let _ = start::answer(ctx, || Ok(None)).await?;
    asked(ctx).await.ok_or_else(|| {
        CliError::daemon(format!("{} was started, and does not answer", service.name))
            .hint(format!("see what it said last with: {}", ctx.suggest("service logs")))
    })
}

/// Has a daemon end that runs without the manager, so that the service's can take its place. It keeps everything, and the
/// other goes on with it.
async fn make_way(ctx: &Context) -> Result<(), CliError> {
    if matches!(Client::connect(&ctx.home).await, Err(ConnectError::NotRunning)) {
        return Ok(());
    }
    let path = ctx.home.join(DAEMON_LOCK);
    let pid = std::fs::read_to_string(&path).map_err(|error| CliError::io("cannot read", &path, &error))?;
    let stuck = |pid: &str| {
        CliError::daemon(format!("the daemon that runs already (process {}) does not end", pid.trim()))
            .hint("end it, and try again: nothing verified is lost")
    };
    let process = pid.trim().parse().ok().and_then(Pid::from_raw).ok_or_else(|| stuck(&pid))?;
    kill_process(process, Signal::TERM).map_err(|_| stuck(&pid))?;
    let deadline = Instant::now() + 3 * ctx.patience;
    while !is_free(&path) {
        if Instant::now() >= deadline {
            return Err(stuck(&pid));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    ctx.out.say(&format!(
        "the daemon that ran without it (process {}) has ended; what it did not finish goes on",
        pid.trim()
    ));
    Ok(())
}

/// Whether no daemon holds this lock.
fn is_free(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|file| file.try_lock().is_ok())
}
