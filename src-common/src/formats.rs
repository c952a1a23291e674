//! Files and messages that others read: one format a file, each with the specification it follows.

pub mod capture;
pub mod cdi;
pub mod cni;
pub mod descriptor;
pub mod devinfo;
pub mod kata_dan;

use serde::Serialize;

/// Pretty JSON with a newline: the files are read by people too.
#[must_use]
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut json =
        serde_json::to_vec_pretty(value).expect("these types have string keys and no failing serializer");
    json.push(b'\n');
    json
}
