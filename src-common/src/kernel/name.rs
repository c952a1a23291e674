//! What a device may be called that sysfs, the kubelet and CDI are all to know by its name.

/// Whether a text is such a name: at most `longest` letters, digits and `_.:-`, alphanumeric at both ends. So it is no
/// path, and CDI takes it as a device name.
pub(crate) fn is_name(text: &str, longest: usize) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(byte);
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= longest && bytes.iter().all(inner) && end(bytes.first()) && end(bytes.last())
}
