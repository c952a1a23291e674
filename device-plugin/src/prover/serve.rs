//! The prover's side of the socket.

use std::convert::Infallible;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};
use doorbell_common::host::Host;
use tracing::{info, warn};

use super::attach::{self, Proof};
use super::{ASKS_WITHIN, Question, SOCKET, open, read_line, write_line};

/// Answers until it is killed; nothing is left undone by that. What is free to be opened is the plugin's to know; what is
/// open already turns us away.
pub fn serve(host: &Host) -> Result<Infallible> {
    let path = host.path(SOCKET);
    let listener = listen(&path).with_context(|| format!("listen on {}", path.display()))?;
    info!(socket = %path.display(), "opens device nodes when asked");
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
    let answer = match asked.parse() {
        Ok(Question::Attach(address)) => serde_json::to_string(&attach::for_another(host, address)),
        Ok(Question::Open(node)) => serde_json::to_string(&open::for_another(host, &node)),
        Err(reason) => serde_json::to_string(&Proof::Untried(reason)),
    }?;
    info!(asked = asked.escape_debug().to_string(), answer, "asked");
    write_line(stream, &answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::thread;
    use std::time::Instant;

    use doorbell_common::kernel::pci::{self, PciAddress};

    use crate::prover::LONGEST;
    use crate::prover::ask::{LISTENS_WITHIN, ask, connect};
    use crate::prover::open::Opening;

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
        let proof: Proof = ask(&host, &Question::Attach(address())).unwrap();
        assert_eq!(proof, Proof::Untried("0000:01:00.1 is no VF".to_owned()));
        server.join().unwrap().unwrap();
    }

    #[test]
    fn a_node_that_acts_when_it_is_opened_is_not() {
        let (_tree, host, server) = host();
        let opening: Opening = ask(&host, &Question::Open("/dev/watchdog".to_owned())).unwrap();
        assert!(matches!(&opening, Opening::Refused(reason) if reason.contains("watchdog")), "{opening:?}");
        server.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let (tree, host, server) = host();
        let stream = connect(&host.path(SOCKET)).unwrap();
        write_line(&stream, "attach ../../dev/vfio/7").unwrap();
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
        let reason = ask::<Proof>(&Host::at(tree.path()), &Question::Attach(address())).unwrap_err();
        assert!(reason.contains("does not answer: No such file or directory"), "{reason}");
        assert!(started.elapsed() < LISTENS_WITHIN);
    }
}
