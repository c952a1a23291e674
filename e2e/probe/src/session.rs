//! A conversation on the wire: resolves, pings and answers, all over one card.

use std::net::Ipv4Addr;
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;

use crate::net::ethernet::Mac;
use crate::nic::Nic;
use crate::report::{Ping, micros};
use crate::station::{Heard, Station};
use crate::stop::Stop;

/// Between two ARP requests for an address that is not there yet.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// Looks at an empty ring before the processor is left to others, who may be the ones to answer.
const LOOKS: u32 = 200;
/// Between looks thereafter.
const NAP: Duration = Duration::from_micros(50);
/// Data of an echo request: as much as ping(8) sends.
const DATA: [u8; 56] = *b"doorbell-probe: 56 bytes of data, as many as ping(8) has";

/// What to ping and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim {
    pub(crate) target: Ipv4Addr,
    pub(crate) count: u32,
    /// How long the target may take to answer ARP.
    pub(crate) wait: Duration,
    /// How long a reply may take.
    pub(crate) reply: Duration,
    /// From one request to the next.
    pub(crate) interval: Duration,
}

/// A station with its card. Whatever it waits for, it answers others meanwhile.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    nic: &'a mut Nic,
    station: Station,
    stop: &'a Stop,
    answered: u64,
}

impl<'a> Session<'a> {
    /// Starts to listen.
    pub(crate) fn new(nic: &'a mut Nic, station: Station, stop: &'a Stop) -> Self {
        Self { nic, station, stop, answered: 0 }
    }

    /// Echo requests of others, answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered
    }

    /// Pings, one request after the other.
    pub(crate) fn ping(&mut self, aim: Aim) -> Result<Ping> {
        let (mut sent, mut round_trips) = (0, Vec::new());
        let Some(mac) = self.resolve(aim.target, aim.wait)? else { return Ok(Ping::new(0, &[])) };
        let identifier = identifier();
        for sequence in 1..=aim.count {
            if self.stop.now() {
                break;
            }
            let sequence = (sequence & 0xffff) as u16;
            let request = self.station.ping((mac, aim.target), identifier, sequence, &DATA);
            let start = Instant::now();
            self.nic.send(&request)?;
            sent += 1;
            let is_reply = |heard: &Heard| {
                matches!(heard, Heard::EchoReply { from, identifier: id, sequence: number, data }
                    if *from == aim.target && *id == identifier && *number == sequence && data == &DATA)
                .then(|| micros(start.elapsed()))
            };
            round_trips.extend(self.listen(Some(start + aim.reply), is_reply)?);
            if sent < aim.count {
                self.listen(Some(start + aim.interval), |_| None::<()>)?;
            }
        }
        Ok(Ping::new(sent, &round_trips))
    }

    /// Answers others, until a time or number is reached, whichever comes first.
    pub(crate) fn serve(&mut self, until: Option<Instant>, answers: Option<u64>) -> Result<()> {
        while answers.is_none_or(|answers| self.answered < answers) {
            let answered = |heard: &Heard| matches!(heard, Heard::EchoRequest { .. }).then_some(());
            if self.listen(until, answered)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn resolve(&mut self, target: Ipv4Addr, wait: Duration) -> Result<Option<Mac>> {
        let deadline = Instant::now() + wait;
        while Instant::now() < deadline && !self.stop.now() {
            self.nic.send(&self.station.ask(target))?;
            let is_target = |heard: &Heard| match heard {
                Heard::Neighbour { ip, mac, .. } if *ip == target => Some(*mac),
                _ => None,
            };
            let found = self.listen(Some(deadline.min(Instant::now() + ASK_AGAIN)), is_target)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Takes frames in, and answers what asks, until one is wanted or the time is over.
    fn listen<T>(
        &mut self,
        until: Option<Instant>,
        wanted: impl Fn(&Heard) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut looks = 0;
        loop {
            // Asked before the ring is looked at, so that what came in time is seen even if we come late.
            let over = self.stop.now() || until.is_some_and(|until| Instant::now() >= until);
            if let Some(frame) = self.nic.receive()? {
                looks = 0;
                let heard = self.station.hear(&frame);
                self.answer(&heard)?;
                if let Some(found) = wanted(&heard) {
                    return Ok(Some(found));
                }
            } else if looks < LOOKS {
                looks += 1;
                yield_now();
            } else {
                sleep(NAP);
            }
            if over {
                return Ok(None);
            }
        }
    }

    fn answer(&mut self, heard: &Heard) -> Result<()> {
        match heard {
            Heard::EchoRequest { answer } => {
                self.nic.send(answer)?;
                self.answered += 1;
                Ok(())
            }
            Heard::Neighbour { answer: Some(answer), .. } => self.nic.send(answer),
            _ => Ok(()),
        }
    }
}

/// An echo identifier that earlier runs on the same wire are unlikely to have had: in a container every run is PID 1.
fn identifier() -> u16 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (now.as_micros() & 0xffff) as u16
}
