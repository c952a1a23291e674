//! Which devices a resource takes.

use std::collections::BTreeMap;

use super::{host, list, node, notes, one, parsed, resource, selected};

fn by(device_type: &str, selectors: &str) -> String {
    selected(&host(), &one(device_type, selectors)).remove("one").unwrap_or_default()
}

#[test]
fn each_selector_of_network_devices_selects_what_it_says() {
    for (selectors, vfs) in [
        // Without selectors every network device; the block device and the accelerator are none.
        ("", "1345"),
        (r#""vendors": null, "devices": [], "isRdma": false, "needVhostNet": false"#, "1345"),
        (r#""vendors": ["1af4"]"#, "1345"),
        (r#""vendors": ["8086", "15b3"]"#, ""),
        (r#""devices": ["1041", "1042"]"#, "1345"),
        (r#""devices": ["1042"]"#, ""),
        (r#""drivers": ["vfio-pci"]"#, "1"),
        (r#""drivers": ["vp-vdpa", "virtio-pci"]"#, "345"),
        (r#""drivers": ["iavf"]"#, ""),
        (r#""pciAddresses": ["0000:01:00.2", "0000:01:00.3", "0000:02:00.1"]"#, "3"),
        (r#""acpiIndexes": ["7", "101"]"#, "4"),
        (r#""pfNames": ["ens1f0"]"#, "1345"),
        (r#""pfNames": ["ens1f0#0,2-3", "ens2f0"]"#, "134"),
        (r#""pfNames": ["ens2f0"]"#, ""),
        (r#""rootDevices": ["0000:01:00.0#2-3,4"]"#, "345"),
        (r#""rootDevices": ["0000:02:00.0"]"#, ""),
        (r#""linkTypes": ["ether"]"#, "1345"),
        (r#""linkTypes": ["infiniband"]"#, ""),
        (r#""vdpaType": "vhost""#, "3"),
        (r#""vdpaType": "virtio""#, "4"),
        // Each narrows what the others leave.
        (r#""vendors": ["1af4"], "pfNames": ["ens1f0#0-3"], "rootDevices": ["0000:01:00.0#2-5"]"#, "34"),
    ] {
        assert_eq!(by("netDevice", selectors), vfs, "{selectors}");
    }
}

#[test]
fn each_selector_of_accelerators_selects_what_it_says() {
    for (selectors, vfs) in [
        ("", "6"),
        (r#""vendors": ["1af4"], "devices": ["1041"], "drivers": ["vfio-pci"]"#, "6"),
        (r#""pciAddresses": ["0000:01:00.1", "0000:01:00.6"]"#, "6"),
        // These are no selectors of theirs.
        (r#""acpiIndexes": ["101"]"#, "6"),
        (r#""pfNames": ["ens2f0"]"#, "6"),
    ] {
        assert_eq!(by("accelerator", selectors), vfs, "{selectors}");
    }
}

#[test]
fn each_selector_of_sub_functions_selects_what_it_says() {
    let root = node::sub_functions::root();
    root.host.keep_as("/sys/class/net/p0/type", b"1\n").unwrap();
    root.host.keep_as("/sys/class/net/enp8s0f0s88/type", b"1\n").unwrap();
    for (selectors, numbers) in [
        ("", vec!["88", "89"]),
        (r#""vendors": ["15b3"], "devices": ["a2d6"]"#, vec!["88", "89"]),
        (r#""vendors": ["1af4"]"#, vec![]),
        (r#""devices": ["101e"]"#, vec![]),
        (r#""pfNames": ["p0#1-88"]"#, vec!["88"]),
        (r#""rootDevices": ["0000:08:00.0#89"]"#, vec!["89"]),
        (r#""linkTypes": ["ether"]"#, vec!["88", "89"]),
        (r#""linkTypes": ["infiniband"]"#, vec![]),
    ] {
        let text = one(
            "auxNetDevice",
            &format!(r#""auxTypes": ["sf"]{}{selectors}"#, if selectors.is_empty() { "" } else { "," }),
        );
        let rows = doorbell_device_plugin::scan::rows(&root.host, Some(&parsed(&text)), root.page).unwrap();
        let of_pool = rows.iter().filter(|row| row.pool.is_some());
        let found: Vec<&str> = of_pool.map(|row| row.id.rsplit("-sf").next().unwrap()).collect();
        assert_eq!(found, numbers, "{selectors}");
    }
}

#[test]
fn a_device_goes_to_the_first_resource_that_selects_it() {
    let resources = [
        resource("rings", r#""selectors": [{"vendors": ["1af4"], "vdpaType": "vhost"}]"#),
        resource("kernel", r#""selectors": [{"vendors": ["1af4"], "vdpaType": "virtio"}]"#),
        resource("dpdk", r#""selectors": [{"drivers": ["vfio-pci"]}]"#),
        resource("rest", r#""selectors": [{}]"#),
    ];
    let expected = [("dpdk", "1"), ("kernel", "4"), ("rest", "5"), ("rings", "3")];
    let expected: BTreeMap<_, _> = expected.map(|(name, vfs)| (name.to_owned(), vfs.to_owned())).into();
    assert_eq!(selected(&host(), &list(&resources)), expected);
}

#[test]
fn one_of_several_sets_of_selectors_is_enough() {
    let sets = r#""selectors": [{"acpiIndexes": ["101"]}, {"pfNames": ["ens1f0#4"]}, {"devices": ["1042"]}]"#;
    assert_eq!(selected(&host(), &list(&[resource("one", sets)]))["one"], "45");
}

#[test]
fn an_object_is_a_list_of_one() {
    let of = |selectors: &str| parsed(&list(&[resource("one", &format!(r#""selectors": {selectors}"#))]));
    assert_eq!(of(r#"{"vendors": ["1af4"]}"#), of(r#"[{"vendors": ["1af4"]}]"#));
}

#[test]
fn keys_are_taken_in_any_case_and_by_escapes_and_with_the_commas_and_tabs_of_its_samples() {
    let text = "{\n\t\"ResourceList\": [{\n\t\t\"resourcename\": \"one\",\n\t\t\"Selectors\": [{\"PFNames\": [\"ens1f0\"],}],\n\t},]\n}";
    assert_eq!(selected(&host(), text)["one"], "1345");
    assert_eq!(selected(&host(), &text.replace("ResourceList", "resource\\u004cist"))["one"], "1345");
}

#[test]
fn of_one_pf_the_first_selector_counts() {
    let text =
        one("netDevice", r#""drivers": ["virtio-pci", "vp-vdpa"], "pfNames": ["ens1f0#2", "ENS1F0#4"]"#);
    assert_eq!(selected(&host(), &text)["one"], "3");
    let [(field, message)] = notes(&text).try_into().unwrap();
    assert_eq!(field, "resourceList[0].selectors[0].pfNames[1]");
    assert!(message.starts_with("it has no effect"), "{message}");
}

#[test]
fn what_has_no_effect_is_noted_and_what_has_one_is_not() {
    let mut fields: Vec<String> = Vec::new();
    let text = list(&[
        resource("a", r#""selectors": [{"drivers": ["iavf"], "auxTypes": ["sf"]}], "selectorObj": null"#),
        resource("b", r#""selectors": {"pfNames": ["eth0"]}"#),
        resource("c", r#""deviceType": "accelerator", "selectors": [{}]"#),
        resource(
            "d",
            r#""selectors": [{"drivers": ["vfio-pci"], "linkTypes": ["ether"]}], "excludeTopology": true"#,
        ),
    ]);
    fields.extend(notes(&text).into_iter().map(|(field, _)| field));
    assert_eq!(
        fields,
        [
            "resourceList[0].selectorObj",
            "resourceList[0].selectors[0].auxTypes",
            "resourceList[1].selectors",
            "resourceList[2].selectors[0]",
        ]
    );
}
