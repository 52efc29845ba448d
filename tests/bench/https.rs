//! An nginx of the benchmark's own, and the clients that fetch from it.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddrV4,
    path::Path,
    process::{Child, Command},
};

use crate::{Result, is_installed, server::Server};

/// The client that has several connections for one file.
pub(crate) const ARIA2: &str = "aria2c";

/// An nginx that serves a folder over TLS.
#[derive(Debug)]
pub(crate) struct Https {
    server: Server,
    address: SocketAddrV4,
}

impl Https {
    /// Starts it at this address, by the command that `command` makes of the program's name. `None`, with a word on
    /// why, where there is none.
    pub(crate) fn start(
        room: &Path,
        address: SocketAddrV4,
        served: &Path,
        command: impl Fn(&str) -> Command,
        ready: impl Fn(&Child) -> bool,
    ) -> Result<Option<Self>> {
        if !(is_installed("nginx") && is_installed("curl")) {
            println!("absent: nginx or curl");
            return Ok(None);
        }
        let folder = room.join("nginx");
        fs::create_dir(&folder)?;
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([address.ip().to_string()])?;
        fs::write(folder.join("cert.pem"), cert.pem())?;
        fs::write(folder.join("key.pem"), signing_key.serialize_pem())?;
        // One process, so that ending it ends everything. Folders of its own, as the usual ones are root's.
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;\n\
             events {{}}\n\
             http {{ access_log off;\n\
             client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;\n\
             server {{ listen {address} ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem; root {}; }} }}\n",
            served.display()
        );
        fs::write(folder.join("nginx.conf"), configuration)?;
        let mut command = command("nginx");
        command.arg("-p").arg(&folder).args(["-e", "error.log", "-c", "nginx.conf"]);
        let Some(server) = Server::start(&mut command, ready)? else {
            let said = fs::read_to_string(folder.join("error.log")).unwrap_or_default();
            println!("nginx does not start: {said}");
            return Ok(None);
        };
        Ok(Some(Self { server, address }))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The arguments with which `curl` fetches a file of the folder; where to comes last.
    pub(crate) fn curl(&self, name: &str) -> Vec<String> {
        let url = self.url(name);
        let words = ["--silent", "--show-error", "--fail", "--insecure", &url, "--output"];
        words.map(str::to_owned).into()
    }

    /// The arguments with which `aria2c` fetches a file of the folder over eight connections.
    pub(crate) fn aria2(&self, name: &str, to: &Path) -> Result<Vec<OsString>> {
        let settings = [
            "--no-conf",
            "--quiet",
            "--check-certificate=false",
            "--file-allocation=none",
            "--split=8",
            "--max-connection-per-server=8",
            "--min-split-size=1M",
            // Nothing of a turn that had to be ended counts.
            "--allow-overwrite=true",
            "--remove-control-file=true",
        ];
        let mut words: Vec<_> = settings.map(OsString::from).into();
        let (folder, file) = (to.parent(), to.file_name());
        words.extend(["--dir".into(), folder.ok_or("a copy lies in a folder")?.into()]);
        words.extend(["--out".into(), file.ok_or("a copy has a name")?.into()]);
        words.push(self.url(name).into());
        Ok(words)
    }

    fn url(&self, name: &str) -> String {
        format!("https://{}/{name}", self.address)
    }
}
