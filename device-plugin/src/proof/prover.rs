//! The prover: a process that may open device nodes and does one thing with them, to attach a VF when it is asked to.
//!
//! A container's device cgroup denies every node unless the container is privileged, and the plugin's is not. So the
//! prover's is: it reads no config, listens to nothing but one socket that root alone may connect to, and takes an address
//! there. Which VF is free to be opened is the plugin's to know; one that is open already turns us away.

use std::convert::Infallible;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use doorbell_common::host::Host;
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::{iommu, sriov};
use doorbell_common::trial;
use tracing::{info, warn};

use super::shown::Proof;

/// Where it listens: a folder that the two containers of a pod share.
pub const SOCKET: &str = "/run/doorbell-prover/socket";

/// The two containers start together.
const LISTENS_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);
/// By its own node, opening and closing a VF are two resets of it, each of a second at most.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Who has connected asks at once.
const ASKS_WITHIN: Duration = Duration::from_secs(1);
/// An address is a dozen characters, a reason a few lines.
const LONGEST: u64 = 4096;

/// Answers until it is killed; nothing is left undone by that.
pub fn serve(host: &Host) -> Result<Infallible> {
    let path = host.path(SOCKET);
    let listener = listen(&path).with_context(|| format!("listen on {}", path.display()))?;
    info!(socket = %path.display(), "attaches VFs when asked");
    loop {
        let (stream, _) = listener.accept().context("accept a connection")?;
        if let Err(error) = answer(host, &stream) {
            warn!(%error, "not answered");
        }
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    // A socket that a killed predecessor left is nobody's.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn answer(host: &Host, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(ASKS_WITHIN))?;
    stream.set_write_timeout(Some(ASKS_WITHIN))?;
    let asked = read_line(stream)?;
    let proof = attach(host, &asked);
    info!(device = asked.escape_debug().to_string(), ?proof, "asked");
    write_line(stream, &serde_json::to_string(&proof)?)
}

fn attach(host: &Host, asked: &str) -> Proof {
    let Ok(address) = asked.parse::<PciAddress>() else {
        return Proof::Untried(format!("{asked:?} is no PCI address"));
    };
    // A PF's driver may be the host's network; no PF is opened, whoever asks.
    match sriov::pf_of(host, address) {
        Ok(Some(_)) => {}
        Ok(None) => return Proof::Untried(format!("{address} is no VF")),
        Err(error) => return Proof::Untried(error.to_string()),
    }
    match iommu::group_of(host, address) {
        Ok(Some(group)) => trial::attach(host, address, group).into(),
        Ok(None) => Proof::Untried(format!("{address} has no IOMMU group")),
        Err(error) => Proof::Untried(error.to_string()),
    }
}

/// Has the prover attach a VF; why there is no answer.
pub(super) fn ask(host: &Host, address: PciAddress) -> Result<Proof, String> {
    let path = host.path(SOCKET);
    let asked = || {
        let stream = connect(&path)?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        stream.set_write_timeout(Some(ASKS_WITHIN))?;
        write_line(&stream, &address.to_string())?;
        Ok(serde_json::from_str(&read_line(&stream)?)?)
    };
    asked().map_err(|error: io::Error| format!("the prover at {} does not answer: {error}", path.display()))
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + LISTENS_WITHIN;
    loop {
        match UnixStream::connect(path) {
            // Where nobody ever listened, its folder is not mounted either: no reason to wait.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
                    && path.parent().is_some_and(Path::exists)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(PAUSE);
            }
            connected => return connected,
        }
    }
}

fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.to_owned()),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn write_line(mut stream: &UnixStream, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    use doorbell_common::kernel::pci;

    /// A captured host with a prover that answers one connection.
    fn host() -> (tempfile::TempDir, Host, thread::JoinHandle<io::Result<()>>) {
        let tree = tempfile::tempdir().unwrap();
        let host = Host::at(tree.path());
        let path = host.path(SOCKET);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = listen(&path).unwrap();
        let serving = host.clone();
        let server = thread::spawn(move || answer(&serving, &listener.accept()?.0));
        (tree, host, server)
    }

    fn address() -> PciAddress {
        "0000:01:00.1".parse().unwrap()
    }

    #[test]
    fn a_function_that_is_no_vf_is_not_opened() {
        let (_tree, host, server) = host();
        host.make_folder(pci::folder(address())).unwrap();
        assert_eq!(ask(&host, address()).unwrap(), Proof::Untried("0000:01:00.1 is no VF".to_owned()));
        server.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let (tree, host, server) = host();
        let stream = connect(&host.path(SOCKET)).unwrap();
        write_line(&stream, "../../dev/vfio/7").unwrap();
        let answer: Proof = serde_json::from_str(&read_line(&stream).unwrap()).unwrap();
        assert_eq!(answer, Proof::Untried(r#""../../dev/vfio/7" is no PCI address"#.to_owned()));
        server.join().unwrap().unwrap();
        drop(tree);
    }

    #[test]
    fn who_sends_no_line_is_given_up() {
        let (_tree, host, server) = host();
        let mut stream = connect(&host.path(SOCKET)).unwrap();
        stream.write_all(&[b'x'; LONGEST as usize + 1]).unwrap();
        assert_eq!(server.join().unwrap().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_socket_is_roots_alone_and_replaces_a_dead_one() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join("socket");
        drop(listen(&path).unwrap());
        let _listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn where_no_prover_is_meant_to_be_nobody_waits() {
        let tree = tempfile::tempdir().unwrap();
        let started = Instant::now();
        let reason = ask(&Host::at(tree.path()), address()).unwrap_err();
        assert!(reason.contains("does not answer: No such file or directory"), "{reason}");
        assert!(started.elapsed() < LISTENS_WITHIN);
    }
}
