//! The network configuration, parsed into types: what it asks for makes sense before anything is done.

use doorbell_common::formats::cni::{
    AttributesConf, Collecting, Delegating, IpamConf, NetConf, RuntimeConfig, VERSIONS, ValidAttachment,
    Versioned, code, ip_prefix,
};
use doorbell_common::formats::descriptor::IpPrefix;
use doorbell_common::formats::devinfo;
use doorbell_common::subdevice::DeviceId;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::attributes::Attributes;
use crate::call::Verb;
use crate::device_info::DeviceInfoFile;
use crate::failure::Failure;
use crate::ipam;

/// What an ADD is to do.
#[derive(Debug, Clone)]
pub struct Config {
    /// Protocol version of configuration and result.
    pub cni_version: String,
    /// Network name.
    pub network: String,
    /// The device that it names.
    pub device: Option<DeviceId>,
    /// What it asks of the device.
    pub attributes: Attributes,
    /// The IPAM plugin that gives addresses.
    pub ipam: Option<ipam::Name>,
    /// Addresses that the runtime asks for, where no IPAM plugin gives any.
    pub ips: Vec<IpPrefix>,
    /// Where the runtime wants the attachment's device-info file.
    pub device_info: Option<DeviceInfoFile>,
    /// The result of the plugin before us, as it came; there only in a chain.
    pub previous: Option<Box<RawValue>>,
}

impl Config {
    /// Parses the configuration of an ADD or a CHECK, with what `CNI_ARGS` adds to it. A CHECK has the result of its own
    /// ADD as `prevResult`, which makes no chain.
    pub fn parse(stdin: &[u8], verb: Verb, args: &str) -> Result<Self, Failure> {
        version(stdin, verb)?;
        let conf: NetConf = decode(stdin)?;
        let attributes: AttributesConf = decode(stdin)?;
        if conf.name.is_empty() {
            return Err(bad("the network has no name"));
        }
        let runtime = conf.runtime_config.clone().unwrap_or_default();
        let ipam = conf.ipam.as_ref().and_then(IpamConf::named).map(ipam).transpose()?;
        if verb == Verb::Add && ipam.is_some() && conf.prev_result.is_some() {
            return Err(bad("a chained doorbell takes no ipam"));
        }
        // An IPAM plugin reads runtimeConfig.ips itself, and in its own way.
        let wanted = runtime.ips.as_deref().filter(|_| ipam.is_none()).unwrap_or_default();
        Ok(Self {
            device: device(&conf, &runtime)?,
            attributes: Attributes::parse(&attributes, runtime.mac.as_deref(), args)?,
            ips: ips(wanted)?,
            ipam,
            device_info: runtime.device_info_file.as_deref().map(device_info).transpose()?,
            cni_version: conf.cni_version,
            network: conf.name,
            previous: conf.prev_result,
        })
    }

    /// Refuses to give several devices what was asked for one: a MAC address that stands twice is a fault of its own.
    pub fn fits(&self, devices: usize) -> Result<(), Failure> {
        let ips = (!self.ips.is_empty()).then_some("runtimeConfig.ips");
        let info = self.device_info.as_ref().map(|_| "runtimeConfig.CNIDeviceInfoFile");
        let mut asked = self.attributes.keys().iter().copied().chain(ips).chain(info);
        match asked.next() {
            Some(key) if devices > 1 => {
                Err(bad(format!("{key} is for one device, and {devices} are to be wired")))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a configuration of a version that is not spoken, or that has no such verb; verbs that need no more of it ask
/// no more.
pub fn version(stdin: &[u8], verb: Verb) -> Result<(), Failure> {
    let conf: Versioned = decode(stdin)?;
    let place = |version: &str| VERSIONS.iter().position(|spoken| *spoken == version);
    if let Some(since) = verb.since()
        && place(&conf.cni_version).is_some_and(|asked| Some(asked) < place(since))
    {
        let msg = format!("cniVersion {} has no {verb}", conf.cni_version);
        return Err(
            Failure::new(code::INCOMPATIBLE_VERSION, msg).with_details(format!("{verb} is of {since}"))
        );
    }
    if !VERSIONS.contains(&conf.cni_version.as_str()) {
        let msg = format!("cniVersion {} is not spoken", conf.cni_version);
        return Err(Failure::new(code::INCOMPATIBLE_VERSION, msg)
            .with_details(format!("spoken: {}", VERSIONS.join(", "))));
    }
    Ok(())
}

/// What a GC is to keep.
#[derive(Debug, Clone)]
pub struct Valid {
    /// Network name: what others hold is not looked at.
    pub network: String,
    /// Attachments that stand.
    pub attachments: Vec<ValidAttachment>,
}

/// What a GC is to keep; refused where the runtime does not say it.
pub fn valid(stdin: &[u8]) -> Result<Valid, Failure> {
    let Collecting { name: network, valid } = decode(stdin)?;
    let attachments =
        valid.ok_or_else(|| bad("GC needs cni.dev/valid-attachments: nothing is given back without"))?;
    if network.is_empty() {
        return Err(bad("the network has no name"));
    }
    Ok(Valid { network, attachments })
}

/// The IPAM plugin that may have leased something by this configuration, at DEL: what ADD refuses has leased nothing,
/// and DEL carries the result of its own ADD as `prevResult`, which makes no chain.
#[must_use]
pub fn leasing(stdin: &[u8]) -> Option<ipam::Name> {
    serde_json::from_slice::<Delegating>(stdin).ok()?.ipam?.named()?.parse().ok()
}

fn decode<'a, T: Deserialize<'a>>(stdin: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(stdin).map_err(|error| {
        Failure::new(code::DECODE, "the network configuration can't be read").because(&error)
    })
}

fn bad(msg: impl Into<String>) -> Failure {
    Failure::new(code::BAD_CONFIG, msg)
}

/// Multus says the device in up to three places, which must agree.
fn device(conf: &NetConf, runtime: &RuntimeConfig) -> Result<Option<DeviceId>, Failure> {
    let places = [&conf.device_id, &conf.pci_bus_id, &runtime.device_id];
    let mut named: Option<&String> = None;
    for device in places.into_iter().flatten() {
        if let Some(other) = named.filter(|other| *other != device) {
            return Err(bad(format!("the configuration names two devices: {other} and {device}")));
        }
        named = Some(device);
    }
    named.map(|id| id.parse().map_err(|_| bad(format!("deviceID `{id}` is no device id")))).transpose()
}

fn ipam(text: &str) -> Result<ipam::Name, Failure> {
    text.parse().map_err(|_| bad(format!("ipam.type `{text}` is no IPAM plugin")))
}

fn device_info(text: &str) -> Result<DeviceInfoFile, Failure> {
    let elsewhere = |_| {
        bad(format!(
            "runtimeConfig.CNIDeviceInfoFile `{text}` is no CNI plugin's file below {}",
            devinfo::FOLDER
        ))
    };
    text.parse().map_err(elsewhere)
}

fn ips(texts: &[String]) -> Result<Vec<IpPrefix>, Failure> {
    let parse = |(index, text): (usize, &String)| {
        let bad = || bad(format!("runtimeConfig.ips[{index}] `{text}` is no address with a prefix length"));
        ip_prefix(text).ok_or_else(bad)
    };
    texts.iter().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use doorbell_common::fault::dice::Dice;

    use super::*;

    fn parse(with: &str) -> Result<Config, Failure> {
        Config::parse(format!(r#"{{"cniVersion":"1.0.0","name":"n"{with}}}"#).as_bytes(), Verb::Add, "")
    }

    fn refused(with: &str) -> (u32, String) {
        let failure = parse(with).unwrap_err();
        (failure.code, failure.msg)
    }

    #[test]
    fn the_places_of_a_device_must_agree() {
        let same = parse(r#","deviceID":"0000:01:00.1","pciBusID":"0000:01:00.1""#).unwrap();
        assert_eq!(same.device.unwrap().as_str(), "0000:01:00.1");
        assert_eq!(
            refused(r#","deviceID":"0000:01:00.1","runtimeConfig":{"deviceID":"0000:01:00.2"}"#),
            (7, "the configuration names two devices: 0000:01:00.1 and 0000:01:00.2".to_owned())
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (ip, good) in
            [("10.0.0.1/24", true), ("fd00::1/128", true), ("10.0.0.1", false), ("::/129", false)]
        {
            assert_eq!(parse(&format!(r#","runtimeConfig":{{"ips":["{ip}"]}}"#)).is_ok(), good, "{ip}");
        }
        assert_eq!(
            refused(r#","runtimeConfig":{"ips":["10.0.0.1/24","10.0.0.2/33"]}"#),
            (7, "runtimeConfig.ips[1] `10.0.0.2/33` is no address with a prefix length".to_owned())
        );
    }

    #[test]
    fn what_is_for_one_device_is_not_given_to_two() {
        for (with, key) in [
            (r#","runtimeConfig":{"mac":"02:00:00:00:00:01"}"#, "runtimeConfig.mac"),
            (r#","runtimeConfig":{"ips":["10.0.0.1/24"]}"#, "runtimeConfig.ips"),
            (r#","vlan":7"#, "vlan"),
        ] {
            let conf = parse(with).unwrap();
            assert!(conf.fits(0).is_ok() && conf.fits(1).is_ok());
            let failure = conf.fits(2).unwrap_err();
            let msg = format!("{key} is for one device, and 2 are to be wired");
            assert_eq!((failure.code, failure.msg), (7, msg));
        }
    }

    #[test]
    fn bad_configurations_have_their_codes() {
        let code = |stdin: &[u8]| Config::parse(stdin, Verb::Add, "").unwrap_err().code;
        assert_eq!(code(b"{"), code::DECODE);
        assert_eq!(code(br#"{"name":"n"}"#), code::DECODE);
        assert_eq!(code(br#"{"cniVersion":"0.2.0","name":"n"}"#), code::INCOMPATIBLE_VERSION);
        assert_eq!(code(br#"{"cniVersion":"1.0.0","name":""}"#), code::BAD_CONFIG);
    }

    /// Every key that is read.
    const ALL: &str = r#"{"cniVersion":"1.1.0","name":"n","type":"doorbell","deviceID":"0000:01:00.1","mac":"02:00:00:00:00:01",
        "mtu":1500,"vlan":7,"vlanQoS":3,"vlanProto":"802.1ad","spoofchk":"on","trust":"off","min_tx_rate":1,"max_tx_rate":2,
        "link_state":"auto","args":{"cni":{"mac":"02:00:00:00:00:01"}},"ipam":{"type":"host-local"},
        "runtimeConfig":{"deviceID":"0000:01:00.1","mac":"02:00:00:00:00:01","ips":["10.0.0.1/24"],
        "CNIDeviceInfoFile":"/var/run/k8s.cni.cncf.io/devinfo/cni/a.json"},
        "cni.dev/valid-attachments":[{"containerID":"c1","ifname":"net1"}]}"#;

    proptest::proptest! {
        #[test]
        fn a_damaged_configuration_is_refused_by_a_code_or_makes_sense(seed: u64) {
            let text = Dice::of(seed).damage(ALL.as_bytes());
            let codes = [code::INCOMPATIBLE_VERSION, code::BAD_ENVIRONMENT, code::DECODE, code::BAD_CONFIG];
            match Config::parse(&text, Verb::Add, "") {
                Ok(config) => {
                    proptest::prop_assert!(VERSIONS.contains(&config.cni_version.as_str()));
                    proptest::prop_assert!(!config.network.is_empty());
                    proptest::prop_assert!(config.ipam.is_none() || config.previous.is_none());
                }
                Err(failure) => {
                    proptest::prop_assert!(codes.contains(&failure.code), "{:?}", failure);
                    let document: serde_json::Value = serde_json::from_str(&failure.document(&text)).unwrap();
                    proptest::prop_assert_eq!(&document["code"], failure.code);
                }
            }
            if let Err(failure) = valid(&text) {
                proptest::prop_assert!(codes.contains(&failure.code), "{:?}", failure);
            }
            let _ = (leasing(&text), version(&text, Verb::Gc));
        }
    }
}
