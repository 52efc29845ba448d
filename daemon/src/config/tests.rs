use std::{collections::HashMap, fs};

use p2p_protocol::rate::{Change, Days, Hours, Limits};

use super::*;

/// A user with folders of their own, an environment, and perhaps a config file.
struct World {
    temp: tempfile::TempDir,
    env: HashMap<&'static str, String>,
}

impl World {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap(), env: HashMap::new() }
    }

    fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.insert(name, value.into());
        self
    }

    fn path(&self, below: &str) -> PathBuf {
        self.temp.path().join(below)
    }

    fn file(self, text: &str) -> Self {
        fs::create_dir_all(self.path("state")).unwrap();
        fs::write(self.path("state/config.toml"), text).unwrap();
        self
    }

    fn within<T>(&self, work: impl FnOnce(&Surroundings<'_>) -> T) -> T {
        work(&Surroundings {
            env: &|name| self.env.get(name).map(OsString::from),
            state: Some(self.path("state")),
            downloads: Some(self.path("Downloads")),
            user: Some(self.path("")),
        })
    }

    fn resolve(&self, args: &Args) -> Result<Settings, ConfigError> {
        self.within(|around| Settings::resolve_in(args, around))
    }

    fn settings(&self) -> Settings {
        self.resolve(&Args::default()).unwrap()
    }

    fn error(&self) -> String {
        self.resolve(&Args::default()).unwrap_err().to_string()
    }
}

fn addresses(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn everything_has_a_default() {
    let world = World::new();
    let settings = world.settings();
    assert_eq!(settings.home, Setting::new(world.path("state"), Origin::Default));
    assert_eq!(settings.config, Setting::new(world.path("state/config.toml"), Origin::Default));
    assert_eq!(settings.listen, Setting::new(addresses(&["[::]:4419"]), Origin::Default));
    assert_eq!(settings.inbox, Setting::new(world.path("Downloads/p2p"), Origin::Default));
    assert_eq!(settings.log, Setting::new("info".to_owned(), Origin::Default));
    assert_eq!(settings.accept, Setting::new(Accept::Always, Origin::Default));
    assert_eq!(settings.congestion, Setting::new(Congestion::Bbr, Origin::Default));
}

#[test]
fn flag_before_environment_before_file_before_default() {
    let text =
        "listen = '127.0.0.1:1'\ninbox = '/file'\nlog = 'error'\naccept = 'ask'\ncongestion = 'cubic'\n";
    let world = World::new().file(text);
    let from_file = Origin::File(world.path("state/config.toml"));
    let settings = world.settings();
    assert_eq!(settings.listen, Setting::new(addresses(&["127.0.0.1:1"]), from_file.clone()));
    assert_eq!(settings.inbox, Setting::new("/file".into(), from_file.clone()));
    assert_eq!(settings.log, Setting::new("error".to_owned(), from_file.clone()));
    assert_eq!(settings.accept, Setting::new(Accept::Ask, from_file.clone()));
    assert_eq!(settings.congestion, Setting::new(Congestion::Cubic, from_file));

    let world =
        world.env(ENV_LISTEN, "127.0.0.1:2, [::1]:3").env(ENV_INBOX, "/env").env(ENV_LOG, "warn,quinn=off");
    let settings = world.settings();
    let listen = addresses(&["127.0.0.1:2", "[::1]:3"]);
    assert_eq!(settings.listen, Setting::new(listen, Origin::Env(ENV_LISTEN)));
    assert_eq!(settings.inbox, Setting::new("/env".into(), Origin::Env(ENV_INBOX)));
    assert_eq!(settings.log, Setting::new("warn,quinn=off".to_owned(), Origin::Env(ENV_LOG)));

    let args = Args {
        listen: addresses(&["0.0.0.0:0"]),
        inbox: Some("/flag".into()),
        log: Some("debug".to_owned()),
        ..Args::default()
    };
    let settings = world.resolve(&args).unwrap();
    assert_eq!(settings.listen, Setting::new(addresses(&["0.0.0.0:0"]), Origin::Flag));
    assert_eq!(settings.inbox, Setting::new("/flag".into(), Origin::Flag));
    assert_eq!(settings.log, Setting::new("debug".to_owned(), Origin::Flag));
}

#[test]
fn home_decides_where_the_config_file_is() {
    let world = World::new().file("log = 'error'\n");
    fs::create_dir(world.path("other")).unwrap();
    fs::write(world.path("other/config.toml"), "log = 'warn'\n").unwrap();
    let other = world.path("other").to_str().unwrap().to_owned();
    let world = world.env(ENV_HOME, other);
    let settings = world.settings();
    assert_eq!(settings.home.origin, Origin::Env(ENV_HOME));
    assert_eq!(settings.log.value, "warn");
    let args = Args { home: Some(world.path("state")), ..Args::default() };
    assert_eq!(world.resolve(&args).unwrap().log.value, "error");
    let elsewhere = world.path("state/config.toml").to_str().unwrap().to_owned();
    let world = world.env(ENV_CONFIG, elsewhere);
    let settings = world.settings();
    assert_eq!((settings.config.origin, settings.log.value), (Origin::Env(ENV_CONFIG), "error".to_owned()));
}

#[test]
fn relative_paths_count_on_the_command_line_only() {
    let world = World::new();
    let args = Args { inbox: Some("in".into()), home: Some("h".into()), ..Args::default() };
    let (settings, here) = (world.resolve(&args).unwrap(), std::env::current_dir().unwrap());
    assert_eq!((settings.inbox.value, settings.home.value), (here.join("in"), here.join("h")));
    assert!(World::new().env(ENV_INBOX, "in").error().contains("P2P_INBOX: in is not an absolute path"));
    assert!(World::new().file("inbox = 'in'").error().contains("`inbox`: \"in\" is not an absolute path"));
    let world = World::new().file("inbox = '~/in'");
    assert_eq!(world.settings().inbox.value, world.path("in"));
}

#[test]
fn where_the_daemon_may_write_is_said_in_the_file() {
    let settings = World::new().settings();
    assert_eq!(settings.write_only_in, Setting::new(WriteOnlyIn::Anywhere, Origin::Default));
    let world = World::new().file("write_only_in = ['/srv/drop', '~/out']");
    let folders = WriteOnlyIn::Folders(vec!["/srv/drop".into(), world.path("out")]);
    let settings = world.settings();
    assert_eq!(settings.write_only_in.value, folders);
    let (out, file) = (world.path("out"), world.path("state/config.toml"));
    let line =
        format!("write_only_in = [\"/srv/drop\", \"{}\"]  # from file {}", out.display(), file.display());
    assert!(settings.for_people().lines().any(|shown| shown == line), "{}", settings.for_people());
    let of = |text: &str| World::new().file(text).settings().write_only_in.value;
    assert_eq!(of("write_only_in = []"), WriteOnlyIn::Folders(Vec::new()));
    assert_eq!(of("write_only_in = 'anywhere'"), WriteOnlyIn::Anywhere);
    let error = World::new().file("write_only_in = '/srv'").error();
    assert!(error.contains("`write_only_in` must be an array of folders"), "{error}");
    let error = World::new().file("write_only_in = ['srv']").error();
    assert!(error.contains("\"srv\" is not an absolute path"), "{error}");
}

#[test]
fn debuggers_are_let_in_by_the_file_or_the_environment() {
    let world = World::new().file("debuggable = true");
    assert!(world.settings().debuggable.value);
    let settings = world.env(ENV_DEBUGGABLE, "0").settings();
    assert_eq!(settings.debuggable, Setting::new(false, Origin::Env(ENV_DEBUGGABLE)));
    assert!(World::new().env(ENV_DEBUGGABLE, "yes").error().starts_with("P2P_DEBUGGABLE: "));
    let error = World::new().file("debuggable = 1").error();
    assert!(error.ends_with("`debuggable` must be true or false"), "{error}");
}

#[test]
fn a_config_file_that_was_named_must_exist() {
    let world = World::new();
    let args = Args { config: Some(world.path("none.toml")), ..Args::default() };
    let error = world.resolve(&args).unwrap_err();
    assert!(matches!(&error, ConfigError::Read { path, .. } if *path == world.path("none.toml")), "{error}");
}

#[test]
fn mistakes_in_the_file_have_a_place_and_a_way_out() {
    let of = |text: &str| {
        let world = World::new().file(text);
        let prefix = format!("{}:", world.path("state/config.toml").display());
        world.error().strip_prefix(&prefix).expect("the path comes first").to_owned()
    };
    assert_eq!(of("\nlisten = '0.0.0.0:1'\n  lisen = 1"), "3:3: unknown key `lisen`; did you mean `listen`?");
    assert_eq!(of("Inbx = 1"), "1:1: unknown key `Inbx`; did you mean `inbox`?");
    assert_eq!(of("home = '/x'"), "1:1: `home` cannot be set here; use --home or P2P_HOME");
    assert_eq!(of("[config]\n"), "1:2: `config` cannot be set here; use --config or P2P_CONFIG");
    assert_eq!(of("log = 3"), "1:7: `log` must be a string");
    assert!(of("listen = []").starts_with("1:10: `listen` must be an address such as"));
    assert!(of("listen = [\n 3]").starts_with("2:2: `listen` must be an address such as"));
    assert!(of("listen = ['0.0.0.0:1',\n 'x']").starts_with("2:2: `listen`: \"x\" is no address and port"));
    assert!(of("log = 'p2p=loud'").starts_with("1:7: `log`: \"p2p=loud\" is no log filter"));
    assert_eq!(of("accept = 'no'"), "1:10: `accept`: \"no\" is neither \"always\" nor \"ask\"");
    assert_eq!(of("congestion = 'reno'"), "1:14: `congestion`: \"reno\" is neither \"bbr\" nor \"cubic\"");
    assert!(of("\nlog").starts_with("2:"), "{}", of("\nlog"));
    assert!(of("log = 'a'\nlog = 'b'").starts_with("2:1: "), "{}", of("log = 'a'\nlog = 'b'"));
}

#[test]
fn mistakes_in_the_environment_and_on_the_command_line_name_it() {
    assert!(
        World::new().env(ENV_LISTEN, "0.0.0.0:1,x").error().starts_with("P2P_LISTEN: \"x\" is no address")
    );
    assert!(World::new().env(ENV_LOG, "a=b=c").error().starts_with("P2P_LOG: "));
    let args = Args { log: Some("a=b=c".to_owned()), ..Args::default() };
    assert!(World::new().resolve(&args).unwrap_err().to_string().starts_with("--log: "));
    assert_eq!(World::new().env(ENV_LISTEN, "").settings().listen.origin, Origin::Default);
}

#[test]
fn a_user_without_folders_is_told_what_to_give() {
    let around = Surroundings { env: &|_| None, state: None, downloads: None, user: None };
    let error = Settings::resolve_in(&Args::default(), &around).unwrap_err().to_string();
    assert_eq!(error, "no state folder is known for this user; give one with --home or P2P_HOME");
    let args = Args { home: Some("/nowhere".into()), ..Args::default() };
    let error = Settings::resolve_in(&args, &around).unwrap_err().to_string();
    assert_eq!(error, "no download folder is known for this user; give one with --inbox or P2P_INBOX");
}

#[test]
fn what_is_shown_tells_value_and_origin() {
    let world = World::new().file("inbox = '/in \"x\"'").env(ENV_LISTEN, "0.0.0.0:0,[::1]:1");
    let args = Args { log: Some("debug".to_owned()), ..Args::default() };
    let settings = world.resolve(&args).unwrap();
    let (state, file) = (world.path("state"), world.path("state/config.toml"));
    let (state, file) = (state.display(), file.display());
    let lines = [
        format!("home = \"{state}\"  # from default"),
        format!("config = \"{file}\"  # from default"),
        "listen = [\"0.0.0.0:0\", \"[::1]:1\"]  # from env P2P_LISTEN".to_owned(),
        format!("inbox = '/in \"x\"'  # from file {file}"),
        "log = \"debug\"  # from flag".to_owned(),
        "accept = \"always\"  # from default".to_owned(),
        "congestion = \"bbr\"  # from default".to_owned(),
        "write_only_in = \"anywhere\"  # from default".to_owned(),
        "debuggable = false  # from default".to_owned(),
        "max_transfers = 1024  # from default".to_owned(),
        "max_transfers_per_peer = 128  # from default".to_owned(),
        "limit = \"off\"  # from default".to_owned(),
        "hooks = {}  # from default".to_owned(),
    ];
    assert_eq!(settings.for_people().lines().collect::<Vec<_>>(), lines);

    let shown: serde_json::Value = serde_json::from_str(&settings.for_programs().unwrap()).unwrap();
    assert_eq!(shown["event"], "config");
    assert_eq!(shown["settings"][2]["key"], "listen");
    assert_eq!(shown["settings"][2]["value"], serde_json::json!(["0.0.0.0:0", "[::1]:1"]));
    assert_eq!(shown["settings"][2]["origin"], "env P2P_LISTEN");
    assert_eq!(shown["settings"][3]["origin"], format!("file {file}"));
    assert!(settings.for_programs().unwrap().starts_with("{\"event\":\"config\","));
}

#[test]
fn a_new_config_file_has_every_setting_with_its_default() {
    let world = World::new();
    let path = world.path("state/config.toml");
    let written = world.within(|around| new::write_new_in(&crate::disk::System, &Args::default(), around));
    assert_eq!(written.unwrap(), path);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "{text}");
    let defaults = world.settings();
    assert!(defaults.shown().iter().all(|shown| shown.origin == "default"), "{}", defaults.for_people());

    // Each of its settings, when it counts, says what holds anyway, and there is none that it lacks.
    let uncommented: String = text
        .lines()
        .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
        .map(|line| format!("{line}\n"))
        .collect();
    let world = world.file(&uncommented);
    let from_file = format!("file {}", path.display());
    let set = world.settings();
    for (set, default) in set.shown().iter().zip(defaults.shown()) {
        assert_eq!((set.key, &set.value), (default.key, &default.value));
        let places = ["home", "config"];
        assert_eq!(
            set.origin,
            if places.contains(&set.key) { "default" } else { &*from_file },
            "{}",
            set.key
        );
    }
}

#[test]
fn a_config_file_that_is_there_stays() {
    let world = World::new().file("log = 'error'\n");
    let written = world.within(|around| new::write_new_in(&crate::disk::System, &Args::default(), around));
    let error = written.unwrap_err();
    assert!(matches!(error, ConfigError::Exists { .. }), "{error}");
    assert_eq!(fs::read_to_string(world.path("state/config.toml")).unwrap(), "log = 'error'\n");
    // Where it is to be is said the way it is read, and need not be there.
    let other = world.path("elsewhere/c.toml");
    let world = world.env(ENV_CONFIG, other.to_str().unwrap());
    let written = world.within(|around| new::write_new_in(&crate::disk::System, &Args::default(), around));
    assert_eq!(written.unwrap(), other);
    assert!(fs::read_to_string(other).unwrap().contains("\n#log = \"info\"\n"));
}

#[test]
fn numbers_of_transfers_are_within_their_limits() {
    let settings = World::new().file("max_transfers = 3\nmax_transfers_per_peer = 128\n").settings();
    assert_eq!((settings.max_transfers.value, settings.max_transfers_per_peer.value), (3, 128));
    for wrong in
        ["max_transfers = 0", "max_transfers = \"3\"", "max_transfers = 1025", "max_transfers_per_peer = 129"]
    {
        let error = World::new().file(wrong).error();
        assert!(error.contains(":1:") && error.contains("a number from 1 to"), "{error}");
    }
}

#[test]
fn limits_are_one_rate_or_a_table_with_hours() {
    let limit = |text: &str| World::new().file(text).settings().limit.value;
    let rate = |text: &str| Some(text.parse().unwrap());
    assert_eq!(limit("limit = '10 MiB/s'").always, Limits { up: rate("10M"), down: rate("10M") });
    let table = "[limit]\nup = '5 MiB/s'\n[[limit.when]]\nfrom = '22:00'\nto = '06:30'\nup = 'off'\ndown = '1 MiB/s'\n\
        [[limit.when]]\ndays = 'fri-sun'\nup = '1 MiB/s'\n[[limit.when]]\ndays = 'mon'\nfrom = '08:00'\nto = '09:00'\n";
    let found = limit(table);
    assert_eq!(found.always, Limits { up: rate("5M"), down: None });
    let change = Change { up: Some(None), down: Some(rate("1M")) };
    let days = |text: &str| text.parse().unwrap();
    let whole = Hours {
        days: days("fri-sun"),
        from: 0,
        to: 0,
        change: Change { up: rate("1M").map(Some), down: None },
    };
    let monday = Hours { days: days("mon"), from: 8 * 60, to: 9 * 60, change: Change::default() };
    assert_eq!(
        found.hours,
        [Hours { days: Days::ALL, from: 22 * 60, to: 6 * 60 + 30, change }, whole, monday]
    );
    let shown = World::new().file(table).settings().for_people();
    let shown = shown.lines().find(|line| line.starts_with("limit = ")).unwrap();
    let (text, _) = shown.split_once("  # from").unwrap();
    assert_eq!(limit(text), found, "what is shown can be read: {shown}");
    for (wrong, says) in [
        ("limit = '10 parsecs'", "10 parsecs"),
        ("limit = 5", "`limit` must be a string"),
        ("limit.sideways = '1M'", "only up, down and when"),
        ("limit.when = 1", "[[limit.when]]"),
        ("limit.when = [{ from = '08:00' }]", "both from and to"),
        ("limit.when = [{ from = '08:00', to = '08:00' }]", "the same"),
        ("limit.when = [{ days = 'mo-fr', up = '1M' }]", "are no days"),
        ("limit.when = [{ from = '8', to = '09:00' }]", "no time of day"),
        ("limit.when = [{ from = '08:00', to = '09:00', at = 1 }]", "only days, from, to, up and down"),
    ] {
        let error = World::new().file(wrong).error();
        assert!(error.contains(":1:") && error.contains(says), "{wrong}: {error}");
    }
}

#[test]
fn hooks_are_programs_with_their_arguments() {
    let home = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        let path = home.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let values = file::read(&Setting::new(path, Origin::Flag), None);
        values.map(|values| values.hooks).map_err(|error| error.to_string())
    };
    let hooks = read("[hooks]\ndone = ['/bin/x', '-v']\nfailed = []\nnotify = true\n").unwrap().unwrap();
    assert_eq!(
        (&*hooks.done, hooks.notify, hooks.are_none()),
        (&["/bin/x".into(), "-v".into()][..], true, false)
    );
    let shown = super::hooks::shown(&hooks).to_string();
    assert_eq!(read(&format!("hooks = {shown}")).unwrap(), Some(hooks));
    for (wrong, why) in [
        ("hooks = 'x'", "a table"),
        ("[hooks]\ndone = '/bin/x'", "an array of strings"),
        ("[hooks]\ndone = ['./x']", "neither an absolute path nor a name"),
        ("[hooks]\ndone = ['']", "neither an absolute path nor a name"),
        ("[hooks]\nended = ['x']", "only offer, done, failed and notify"),
        ("[hooks]\nnotify = 1", "true or false"),
        ("[hooks]\ndone = [\"a\\u0000\"]", "no zero byte"),
    ] {
        let error = read(wrong).unwrap_err();
        assert!(error.contains(why), "{wrong}: {error}");
    }
}
