//! A question by HTTP, as a probe or Prometheus asks it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

const PORT: u16 = 9117;
const WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// What the plugin of a pod answers.
pub(crate) fn get(address: &str, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect((address, PORT)).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(WITHIN))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: */*\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("read {path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of its head")?;
    let status = head.split(' ').nth(1).context("the answer has no status")?.parse()?;
    Ok(Answer { status, body: body.to_owned() })
}
