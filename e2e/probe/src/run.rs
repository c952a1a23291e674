//! One run, from the descriptor to the last line.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::ask::ask;
use crate::attach;
use crate::bench::bench;
use crate::descriptor::{self, Descriptor, Device};
use crate::dma::DmaArea;
use crate::line::Wish;
use crate::memlock;
use crate::nic::{self, Nic};
use crate::options::{Command, Options};
use crate::report::{Done, Doorbell, Event, Held, Mapped, Opened, Ping, Rung, Up, micros};
use crate::session::{Aim, Session};
use crate::station::Station;
use crate::stop::Stop;

/// Between two looks at the end while nothing else is to do.
const STEP: Duration = Duration::from_millis(20);

/// Does what `options` ask with a device below `descriptors`; what was asked for and not had, if anything.
///
/// Prints all events but [`Event::Error`], which is the caller's.
pub fn run(options: &Options, descriptors: &Path) -> Result<Option<String>> {
    let stop = Stop::arm(options.bound())?;
    if options.linger || options.hold {
        stop.watch_stdin()?;
    }
    let descriptor = descriptor::find(descriptors, options.device.as_deref())?;
    if let Some(Command::Bench(wish)) = &options.command {
        let benched = bench(&descriptor.device, options, wish, &stop)?;
        Event::Bench(benched).print()?;
        return Ok(None);
    }
    if options.hold {
        hold(&descriptor.device, options, &stop)?;
        return Ok(None);
    }
    if options.open {
        open(&descriptor.device, options, &stop)?;
        return Ok(None);
    }
    if let Some(bytes) = options.map_bytes {
        map(&descriptor.device, bytes, options)?;
        return Ok(None);
    }
    let done = drive(&descriptor, options, &stop)?;
    let missed = done.missed.clone();
    Event::Done(done).print()?;
    Ok(missed)
}

/// Keeps the device from everybody else.
fn hold(device: &Device, options: &Options, stop: &Stop) -> Result<()> {
    let nodes = device.nodes()?;
    let _files = attach::hold(nodes, options.patience())?;
    let held = Held { device: device.id.clone(), node: nodes.own().to_owned() };
    announce(&Event::Held(held), options)?;
    wait(stop);
    Ok(())
}

/// Opens the device and asks what it is.
fn open(device: &Device, options: &Options, stop: &Stop) -> Result<()> {
    let start = Instant::now();
    let (space, open) = attach::attach(device, options.patience())?;
    let opened = start.elapsed();
    let opened = Opened {
        device: device.id.clone(),
        node: device.nodes()?.own().to_owned(),
        open_micros: micros(opened),
        found: ask(device, &open, &space, options.doorbell)?,
    };
    announce(&Event::Opened(opened), options)?;
    if options.linger {
        wait(stop);
    }
    Ok(())
}

/// Maps so many bytes for the attached device, and gives them back.
fn map(device: &Device, bytes: NonZeroUsize, options: &Options) -> Result<()> {
    let (space, _open) = attach::attach(device, options.patience())?;
    let area = DmaArea::map(&space, bytes)?;
    let bytes = area.memory().length();
    let mapped = Mapped { device: device.id.clone(), bytes, memlock_limit: memlock::limit() };
    announce(&Event::Mapped(mapped), options)
}

/// Brings the device up and converses; the device is down again on return.
fn drive(descriptor: &Descriptor, options: &Options, stop: &Stop) -> Result<Done> {
    let Descriptor { device, attachment } = descriptor;
    let ip = options
        .ip
        .or_else(|| attached_ip(descriptor))
        .context("no address: neither --ip nor an attachment has one")?;
    let by = device.rung_by(options.doorbell)?;

    let start = Instant::now();
    let (space, open) = attach::attach(device, options.patience())?;
    let opened = start.elapsed();
    let kind = open.virtio_type(device)?;
    ensure!(
        kind == nic::DEVICE_TYPE,
        "{} is a virtio device of type {kind}, not {}",
        device.id,
        nic::DEVICE_TYPE
    );
    let wish = Wish { queue_size: options.queue_size, dma_bytes: options.dma_bytes };
    let mut nic = open
        .virtio(device, by)
        .and_then(|virtio| Nic::bring_up(virtio, &space, wish))
        .with_context(|| format!("bring {} up", device.id))?;
    let running = start.elapsed();

    let station = Station { mac: nic.mac(), ip };
    let proof = nic.prove(&station.ask(ip)).context("prove the doorbell")?;
    let doorbell = Doorbell {
        by,
        region: device.doorbell.region,
        offset: device.doorbell.offset,
        granularity: device.doorbell.granularity,
    };
    let up = Up {
        device: device.id.clone(),
        mac: nic.mac().to_string(),
        ip,
        interface: attachment.as_ref().map(|attachment| attachment.interface.clone()),
        features: format!("{:#x}", nic.features()),
        dma_bytes: nic.dma_bytes(),
        doorbell,
        proof,
        open_micros: micros(opened),
        bring_up_micros: micros(running - opened),
    };
    announce(&Event::Up(up), options)?;

    let mut session = Session::new(&mut nic, station, stop);
    let ping = converse(&mut session, options)?;
    let answered = session.answered();
    nic.drain().context("send the last frames")?;
    Ok(Done {
        device: device.id.clone(),
        mac: nic.mac().to_string(),
        doorbell: Rung { which: doorbell, writes: nic.rung(), spared: nic.spared() },
        ping,
        answered,
        frames: nic.frames(),
        dma_bytes: nic.dma_bytes(),
        missed: missed(options, ping, answered),
    })
}

/// Until it is time.
fn wait(stop: &Stop) {
    while !stop.now() {
        sleep(STEP);
    }
}

/// Pings, then serves, as asked.
fn converse(session: &mut Session<'_>, options: &Options) -> Result<Option<Ping>> {
    let ping = options
        .ping
        .map(|target| {
            session.ping(Aim {
                target,
                count: options.count,
                wait: Duration::from_secs(options.wait),
                reply: Duration::from_millis(options.reply_ms),
                interval: Duration::from_millis(options.interval_ms),
            })
        })
        .transpose()?;
    if options.linger {
        session.serve(None, None)?;
    } else if options.serve_seconds.is_some() || options.serve_replies.is_some() {
        let until = options.serve_seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        session.serve(until, options.serve_replies)?;
    }
    Ok(ping)
}

fn missed(options: &Options, ping: Option<Ping>, answered: u64) -> Option<String> {
    match (options.ping, ping) {
        (Some(target), Some(ping)) if ping.sent == 0 && options.count > 0 => {
            return Some(format!("ping {target}: no answer to ARP"));
        }
        (Some(target), Some(ping)) if ping.received < options.count => {
            return Some(format!("ping {target}: {} replies of {}", ping.received, options.count));
        }
        _ => {}
    }
    let wanted = options.serve_replies.filter(|wanted| answered < *wanted)?;
    Some(format!("serve: {answered} echo requests of {wanted}"))
}

fn attached_ip(descriptor: &Descriptor) -> Option<Ipv4Addr> {
    descriptor.attachment.as_ref()?.ips.iter().find_map(|ip| match ip.address {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    })
}

fn announce(event: &Event, options: &Options) -> Result<()> {
    event.print()?;
    options.up_file.as_deref().map_or(Ok(()), |path| event.save(path))
}
