//! One kind of kernel object a file.

pub mod pci;
