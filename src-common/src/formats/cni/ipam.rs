//! What a plugin that gives addresses (IPAM) is called by, and what it answers.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::formats::descriptor::IpPrefix;
use crate::kernel::link::Route;

/// The part of `ipam` that every plugin has; the rest is its own. Field and meta-plugins write `{}` for none.
#[derive(Debug, Clone, Deserialize)]
pub struct IpamConf {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// What an IPAM plugin answers to ADD. Interfaces in it mean nothing.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct IpamResult {
    ips: Option<Vec<Map<String, Value>>>,
    pub(super) routes: Option<Vec<Value>>,
    pub(super) dns: Option<Map<String, Value>>,
}

/// A route as the protocol writes it; keys that are not here are unknown to it.
#[derive(Debug, Deserialize)]
struct RouteText {
    dst: String,
    gw: Option<IpAddr>,
    mtu: Option<u32>,
    advmss: Option<u32>,
    priority: Option<u32>,
    table: Option<u32>,
    scope: Option<u8>,
}

impl IpamConf {
    /// The plugin's name, where there is one.
    #[must_use]
    pub fn named(&self) -> Option<&str> {
        self.kind.as_deref().filter(|name| !name.is_empty())
    }
}

impl IpamResult {
    /// Its addresses, each with its `address` and what else the plugin says of it.
    #[must_use]
    pub fn ips(&self) -> &[Map<String, Value>] {
        self.ips.as_deref().unwrap_or_default()
    }

    /// Its routes; one without a gateway of its own goes through that of an address of its family, where one has any.
    /// The error is the route that is none.
    pub fn routes(&self) -> Result<Vec<Route>, String> {
        self.routes.iter().flatten().map(|route| self.route(route).ok_or_else(|| route.to_string())).collect()
    }

    fn route(&self, value: &Value) -> Option<Route> {
        let RouteText { dst, gw, mtu, advmss, priority, table, scope } =
            serde_json::from_value(value.clone()).ok()?;
        let IpPrefix { address, prefix } = ip_prefix(&dst)?;
        let gateway = gw.or_else(|| self.gateway(address));
        Some(Route { priority, mtu, mss: advmss, table, scope, ..Route::to((address, prefix), gateway) })
    }

    /// The gateway of its first address that has one, of the family of an address.
    fn gateway(&self, family: IpAddr) -> Option<IpAddr> {
        let mut gateways =
            self.ips().iter().filter_map(|ip| ip.get("gateway")?.as_str()?.parse::<IpAddr>().ok());
        gateways.find(|gateway| gateway.is_ipv4() == family.is_ipv4())
    }
}

/// An address with its prefix length as the protocol writes it: `10.0.0.2/24`.
#[must_use]
pub fn ip_prefix(text: &str) -> Option<IpPrefix> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    // `+24` parses as a number.
    let digits = prefix.bytes().all(|digit| digit.is_ascii_digit());
    let prefix = prefix.parse().ok().filter(|_| digits)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= bits).then_some(IpPrefix { address, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(json: &str) -> Result<Vec<String>, String> {
        let result: IpamResult = serde_json::from_str(json).unwrap();
        Ok(result.routes()?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_route_without_a_gateway_goes_through_that_of_its_familys_address() {
        let ips = r#""ips":[{"address":"fd00::2/64"},{"address":"10.0.0.2/24","gateway":"10.0.0.1"}]"#;
        let given = r#""routes":[{"dst":"0.0.0.0/0"},{"dst":"10.1.0.0/16","gw":"10.0.0.9"},{"dst":"::/0"}]"#;
        let expected = ["0.0.0.0/0 through 10.0.0.1", "10.1.0.0/16 through 10.0.0.9", "::/0"];
        assert_eq!(routes(&format!("{{{ips},{given}}}")).unwrap(), expected);
    }

    #[test]
    fn all_that_is_said_of_a_route_is_of_it() {
        let json = r#"{"routes":[{"dst":"10.1.0.0/16","mtu":1400,"advmss":1360,"priority":100,"table":7,"scope":0}]}"#;
        let result: IpamResult = serde_json::from_str(json).unwrap();
        let expected = Route {
            mtu: Some(1400),
            mss: Some(1360),
            priority: Some(100),
            table: Some(7),
            scope: Some(0),
            ..Route::to(([10, 1, 0, 0].into(), 16), None)
        };
        assert_eq!(result.routes(), Ok(vec![expected]));
    }

    #[test]
    fn what_is_no_route_is_said() {
        assert_eq!(routes(r#"{"routes":[{"dst":"10.1.0.0"}]}"#).unwrap_err(), r#"{"dst":"10.1.0.0"}"#);
        assert_eq!(routes(r#"{"routes":[7]}"#).unwrap_err(), "7");
        assert_eq!(routes("{}").unwrap(), Vec::<String>::new());
    }
}
