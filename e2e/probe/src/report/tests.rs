//! The lines as their readers know them.

use super::*;
use crate::spread::Spread;

#[test]
fn the_done_line_keeps_its_shape() {
    let done = Done {
        device: "0000:01:00.1".into(),
        mac: "52:54:00:aa:00:01".into(),
        doorbell: Rung {
            which: Doorbell {
                by: By::Mapped,
                region: Some(4),
                offset: Some(12288),
                granularity: Some(Granularity::Device),
            },
            writes: PerQueue { rx: 1, tx: 7 },
            spared: PerQueue { rx: 6, tx: 0 },
        },
        ping: Some(Ping::new(3, &[10, 30])),
        answered: 2,
        frames: PerQueue { rx: 6, tx: 7 },
        dma_bytes: 270_336,
        missed: None,
    };
    let event = Event::Done(done);
    let line = event.line().unwrap();
    assert_eq!(
        line,
        concat!(
            r#"{"event":"done","device":"0000:01:00.1","mac":"52:54:00:aa:00:01","#,
            r#""doorbell":{"by":"mapped","region":4,"offset":12288,"granularity":"device","#,
            r#""writes":{"rx":1,"tx":7},"spared":{"rx":6,"tx":0}},"#,
            r#""ping":{"sent":3,"received":2,"rttMicrosMin":10,"rttMicrosAvg":20,"rttMicrosMax":30},"#,
            r#""answered":2,"frames":{"rx":6,"tx":7},"dmaBytes":270336,"missed":null}"#,
            "\n"
        )
    );
    assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
}

#[test]
fn the_bench_line_keeps_its_shape() {
    let spread = |p50| Spread { count: 2, min: 1.0, p50, p99: 9.0, max: 9.5 };
    let event = Event::Bench(Benched {
        device: "0000:01:00.1".into(),
        rings: Rings { mapped: spread(2.0), pwrite: spread(3.0), eventfd: spread(4.0) },
        rings_a_sample: 100,
        round_trips: RoundTrips { mapped: spread(5.0), pwrite: spread(6.0), relayed: spread(7.0) },
        unasked: 1,
    });
    let line = event.line().unwrap();
    let told = |p50: &str| format!(r#"{{"count":2,"min":1.0,"p50":{p50},"p99":9.0,"max":9.5}}"#);
    let [a, b, c, d, e, f] = ["2.0", "3.0", "4.0", "5.0", "6.0", "7.0"].map(told);
    assert_eq!(
        line,
        format!(
            r#"{{"event":"bench","device":"0000:01:00.1","rings":{{"mapped":{a},"pwrite":{b},"eventfd":{c}}},"#
        ) + &format!(
            r#""ringsASample":100,"roundTrips":{{"mapped":{d},"pwrite":{e},"relayed":{f}}},"unasked":1}}"#
        ) + "\n"
    );
    assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
}

#[test]
fn the_up_line_keeps_its_shape() {
    let up = Up {
        device: "0000:01:00.1".into(),
        mac: "52:54:00:aa:00:01".into(),
        ip: Ipv4Addr::new(10, 9, 0, 2),
        interface: None,
        features: "0x300000020".into(),
        dma_bytes: 270_336,
        doorbell: Doorbell { by: By::Eventfd, region: None, offset: None, granularity: None },
        proof: Proof { quiet_before_ring: true, ring_to_used_micros: Some(80) },
        open_micros: 900,
        bring_up_micros: 4000,
    };
    let event = Event::Up(up);
    let line = event.line().unwrap();
    assert_eq!(
        line,
        concat!(
            r#"{"event":"up","device":"0000:01:00.1","mac":"52:54:00:aa:00:01","ip":"10.9.0.2","#,
            r#""interface":null,"features":"0x300000020","dmaBytes":270336,"doorbell":{"by":"eventfd"},"#,
            r#""proof":{"quietBeforeRing":true,"ringToUsedMicros":80},"openMicros":900,"bringUpMicros":4000}"#,
            "\n"
        )
    );
    assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
}

#[test]
fn what_was_opened_is_told_by_its_kind() {
    let opened = |node: &str, found| {
        Event::Opened(Opened { device: "x".into(), node: node.into(), open_micros: 900, found })
    };
    let disk = Disk { sectors: 262_144, first_sector: "00".repeat(16), read_micros: 300 };
    let vdpa = Vdpa {
        virtio_type: 2,
        features: "0x300006274".into(),
        config_bytes: 60,
        queues: 1,
        queue_limit: 256,
        disk: Some(disk),
    };
    let vfio = Vfio { name: "an-uuid".into(), flags: "0x2".into(), regions: 9, interrupts: 5, reset: true };
    for (event, line) in [
        (
            opened("/dev/vhost-vdpa-0", Found::Vdpa(vdpa)),
            concat!(
                r#"{"event":"opened","device":"x","node":"/dev/vhost-vdpa-0","openMicros":900,"#,
                r#""vdpa":{"virtioType":2,"features":"0x300006274","configBytes":60,"queues":1,"queueLimit":256,"#,
                r#""disk":{"sectors":262144,"firstSector":"00000000000000000000000000000000","readMicros":300}}}"#,
                "\n"
            ),
        ),
        (
            opened("/dev/vfio/7", Found::Vfio(vfio)),
            concat!(
                r#"{"event":"opened","device":"x","node":"/dev/vfio/7","openMicros":900,"#,
                r#""vfio":{"name":"an-uuid","flags":"0x2","regions":9,"interrupts":5,"reset":true}}"#,
                "\n"
            ),
        ),
    ] {
        assert_eq!(event.line().unwrap(), line);
        assert_eq!(serde_json::from_str::<Event>(line).unwrap(), event);
    }
}

#[test]
fn an_error_is_an_event_too() {
    let event = Event::Error { message: "open /dev/vfio/7: EBUSY".into(), memlock_limit: Some(8192) };
    let line = r#"{"event":"error","message":"open /dev/vfio/7: EBUSY","memlockLimit":8192}"#;
    assert_eq!(event.line().unwrap(), format!("{line}\n"));
}

#[test]
fn a_mapping_without_a_limit_says_null() {
    let mapped = Mapped { device: "x".into(), bytes: 4096, memlock_limit: None };
    let line = r#"{"event":"mapped","device":"x","bytes":4096,"memlockLimit":null}"#;
    assert_eq!(Event::Mapped(mapped).line().unwrap(), format!("{line}\n"));
}

#[test]
fn a_saved_event_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("up");
    Event::Held(Held { device: "x".into(), node: "/dev/vfio/7".into() }).save(&path).unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("{\"event\":\"held\""));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
