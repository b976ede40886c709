//! Which addresses an image may be fetched from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` is one that anyone on the Internet reaches the same way. All that leads, directly or through a
/// translation (mapped, NAT64, 6to4, Teredo), to this machine or its networks is not.
pub(super) fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_global_v4(v4),
        // ::ffff:0:0/96 is the IPv4 address itself.
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| is_global_v6(v6), is_global_v4),
    }
}

/// The IANA special-purpose registry, and multicast.
fn is_global_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = a == 0
        || v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || (a == 100 && b & 0b1100_0000 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0b1111_1110 == 18)
        || a >= 224;
    !special
}

/// Only 2000::/3 is handed out, and some of it is special.
fn is_global_v6(v6: Ipv6Addr) -> bool {
    let s = v6.segments();
    if s[0] & 0xe000 != 0x2000 {
        // Among others ::1, ::/96, 64:ff9b::/96 and 64:ff9b:1::/48 (NAT64), fc00::/7, fe80::/10, fec0::/10, ff00::/8.
        return false;
    }
    match s[0] {
        // Teredo, benchmarking, ORCHID and the rest of 2001::/23; documentation.
        0x2001 => s[1] >= 0x0200 && s[1] != 0x0db8,
        // 6to4.
        0x2002 => false,
        // Documentation.
        0x3fff => s[1] >= 0x1000,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_global_addresses_pass() {
        let global =
            ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"];
        for address in global {
            assert!(is_global(address.parse().expect(address)), "{address}");
        }
        let local = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "2001::1",
            "2001:db8::1",
            "2001:10::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "5f00::1",
        ];
        for address in local {
            assert!(!is_global(address.parse().expect(address)), "{address}");
        }
    }
}
