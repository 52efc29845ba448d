//! A network device whose packets a program reads and writes.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use rustix::ioctl;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// `struct ifreq` of `netdevice(7)`: a name with a final zero, and a union of which only the flags matter here.
const IFREQ: usize = 40;
const IFNAMSIZ: usize = 16;

/// From `linux/if_tun.h`.
const TUNSETIFF: ioctl::Opcode = 0x4004_54ca;
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;

/// A device that carries IP packets and goes away with this handle, or with the namespace that it was moved into.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Whether such devices can be made here.
    pub fn is_supported() -> bool {
        Path::new(CLONE_DEVICE).exists()
    }

    /// A new device of this name, in this process's namespace and down.
    pub fn new(name: &str) -> io::Result<Self> {
        if name.len() >= IFNAMSIZ {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name} is too long for a device"),
            ));
        }
        let mut request = [0u8; IFREQ];
        request[..name.len()].copy_from_slice(name.as_bytes());
        request[IFNAMSIZ..IFNAMSIZ + 2].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
        let file = OpenOptions::new().read(true).write(true).open(CLONE_DEVICE)?;
        set_interface(&file, request)?;
        Ok(Self(file))
    }

    /// Waits for a packet that the kernel sends into the device, and returns its length. It fails once the device
    /// is gone.
    pub fn read(&self, packet: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(packet)
    }

    /// Gives the kernel a packet that arrives at the device.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write_all(packet)
    }
}

#[expect(unsafe_code, reason = "no safe wrapper of this call is at hand, and it is one line")]
fn set_interface(file: &File, request: [u8; IFREQ]) -> io::Result<()> {
    // SAFETY: TUNSETIFF reads and writes one `ifreq` at the address given, and `request` is as long as that. It lives
    // until the call returns, and what the kernel writes (the name) is not looked at.
    Ok(unsafe { ioctl::ioctl(file, SetInterface(request)) }?)
}

struct SetInterface([u8; IFREQ]);

#[expect(unsafe_code, reason = "see `set_interface`")]
// SAFETY: the opcode is TUNSETIFF, whose argument is an `ifreq`; the kernel copies one back, hence IS_MUTATING.
unsafe impl ioctl::Ioctl for SetInterface {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> ioctl::Opcode {
        TUNSETIFF
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        self.0.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: ioctl::IoctlOutput, _: *mut std::ffi::c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}
