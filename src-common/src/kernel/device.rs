//! A device by its link in a bus' folder: the link leads to the device's own folder, which lies in its parent's.
//!
//! Whatever is asked of such a device is asked below its own folder, not below the link: a capture can hold the link
//! or what lies below it, not both.

use crate::host::{self, Host};

/// A device's own folder in sysfs (`/sys/devices/…`); `None` where the device is gone.
pub(super) fn folder(host: &Host, link: &str) -> host::Result<Option<String>> {
    // sysfs holds ASCII names only.
    Ok(host.follow(link)?.and_then(|folder| folder.into_os_string().into_string().ok()))
}

/// The folder that a device's own folder lies in, and its base name: its parent's.
pub(super) fn parent(folder: &str) -> Option<(&str, &str)> {
    let (parent, _) = folder.rsplit_once('/')?;
    let (_, name) = parent.rsplit_once('/')?;
    Some((parent, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_one_folder_up() {
        assert_eq!(parent("/sys/devices/a/b"), Some(("/sys/devices/a", "a")));
        assert_eq!(parent("/sys"), None);
    }
}
