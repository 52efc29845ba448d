//! What this is measured on.

use std::{fs, thread};

use serde_json::{Value, json};

/// The machine, as far as it tells.
#[derive(Debug)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    /// The largest receive buffer of a socket. QUIC lives by it more than TCP, whose buffers have bounds of their own.
    rmem_max: Option<u64>,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let setting =
            |name: &str| Some(fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().to_owned());
        Self {
            cpu: model.map_or("an unknown processor", |(_, name)| name).to_owned(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel: setting("kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            rmem_max: setting("net/core/rmem_max").and_then(|bytes| bytes.parse().ok()),
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        json!({ "cpu": self.cpu, "cores": self.cores, "kernel": self.kernel, "rmem_max": self.rmem_max })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu, cores, kernel, rmem_max } = self;
        let rmem_max = rmem_max.map_or("unknown".to_owned(), |bytes| bytes.to_string());
        write!(f, "{cores} cores of {cpu}, kernel {kernel}, net.core.rmem_max {rmem_max}")
    }
}
