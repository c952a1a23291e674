//! What can't be taken over, by its path, with why.

use doorbell_device_plugin::config::{Config, ConfigError};

use super::{list, one, resource};

/// Fields and messages of all that is refused.
fn refused(text: &str) -> Vec<(String, String)> {
    match Config::parse("config.json", text).unwrap_err() {
        ConfigError::Unmappable { refused, .. } => {
            refused.into_iter().map(|remark| (remark.field, remark.message)).collect()
        }
        other => panic!("{other}"),
    }
}

fn assert_refused(text: &str, field: &str, why: &str) {
    let refused = refused(text);
    let [(at, message)] = refused.as_slice() else { panic!("not one: {refused:?}") };
    assert!(at == field && message.contains(why), "{at}: {message}\n{field}: {why}");
}

#[test]
fn a_selector_that_has_nothing_to_become_is_refused() {
    for (device_type, selectors, field, why) in [
        ("netDevice", r#""isRdma": true"#, ".isRdma", "no RDMA nodes"),
        ("auxNetDevice", r#""auxTypes": ["sf"], "IsRdma": true"#, ".IsRdma", "no RDMA nodes"),
        ("netDevice", r#""ddpProfiles": ["GTPv1"]"#, ".ddpProfiles", "packet-processing profiles"),
        ("netDevice", r#""pKeys": ["0x1"]"#, ".pKeys", "partition keys"),
        ("netDevice", r#""linkTypes": ["ppp"]"#, ".linkTypes[0]", "unknown variant `ppp`"),
        ("netDevice", r#""vdpaType": "vduse""#, ".vdpaType", "expected vhost or virtio"),
        ("netDevice", r#""drivers": ["igb_uio"]"#, ".drivers", "nothing that confines its DMA"),
        ("netDevice", r#""drivers": ["vfio-pci", "iavf"]"#, ".drivers", "make two resources of it"),
        ("netDevice", r#""drivers": ["vfio-pci"], "vdpaType": "vhost""#, ".drivers", "has no vDPA device"),
        ("netDevice", r#""drivers": ["../x"]"#, ".drivers[0]", "is no driver name"),
        (
            "netDevice",
            r#""vendors": ["15B3"]"#,
            ".vendors[0]",
            "selects nothing by this one: `15b3` is meant",
        ),
        ("netDevice", r#""devices": ["0x1041"]"#, ".devices[0]", "is no PCI id"),
        ("netDevice", r#""pciAddresses": ["01:00.1"]"#, ".pciAddresses[0]", "is no PCI address"),
        ("netDevice", r#""acpiIndexes": ["eth"]"#, ".acpiIndexes[0]", "is no ACPI index"),
        ("netDevice", r#""pfNames": ["0000:01:00.0"]"#, ".pfNames[0]", "write it into rootDevices"),
        ("netDevice", r#""pfNames": ["ENS1F0"]"#, ".pfNames[0]", "write it as the kernel does"),
        ("netDevice", r#""pfNames": ["p0#3-1"]"#, ".pfNames[0]", "selects no VFs"),
        ("netDevice", r#""rootDevices": ["p0"]"#, ".rootDevices[0]", "is no root device"),
        ("accelerator", r#""drivers": ["qat_c4xxx"]"#, ".drivers", "only vfio-pci is handed out"),
        ("auxNetDevice", r#""auxTypes": ["eth"]"#, ".auxTypes[0]", "no sub-functions"),
        ("auxNetDevice", "", "", "no `auxTypes` are given"),
        (
            "auxNetDevice",
            r#""auxTypes": ["sf"], "drivers": ["mlx5_core"]"#,
            ".drivers",
            "the driver of the NIC",
        ),
        ("netDevice", r#""vendors": "1af4""#, ".vendors", "a text where a list belongs"),
        ("netDevice", r#""isRdma": "yes""#, ".isRdma", "a text where true or false belongs"),
        ("netDevice", r#""isRdma": false, "IsRdma": false"#, ".IsRdma", "it is there already"),
    ] {
        let text = one(device_type, selectors);
        assert_refused(&text, &format!("resourceList[0].selectors[0]{field}"), why);
    }
}

#[test]
fn what_one_pool_can_not_have_two_of_is_refused() {
    let sets = |first: &str, second: &str| {
        list(&[resource("one", &format!(r#""selectors": [{{{first}}}, {{{second}}}]"#))])
    };
    let at = "resourceList[0].selectors[1]";
    let text = sets(r#""drivers": ["vfio-pci"]"#, r#""drivers": ["iavf"]"#);
    assert_refused(&text, at, "by netdev, those of selectors[0] by vfio");
    let text = sets(r#""drivers": ["iavf"], "needVhostNet": true"#, r#""drivers": ["iavf"]"#);
    assert_refused(&text, at, "`needVhostNet` is another");
}

#[test]
fn a_resource_that_makes_no_pool_is_refused() {
    let selectors = r#""selectors": [{"drivers": ["iavf"]}]"#;
    for (text, field, why) in [
        (resource("one", r#""deviceType": "netDevice""#), "", "no `selectors` are given"),
        (resource("one", r#""selectors": null"#), "", "no `selectors` are given"),
        (resource("one", r#""selectors": []"#), ".selectors", "leaves the resource out"),
        (resource("one", r#""selectors": [[]]"#), ".selectors[0]", "a list where an object belongs"),
        (resource("o.ne", selectors), ".resourceName", "is no resource"),
        (
            resource("one", &format!(r#""resourcePrefix": "Intel", {selectors}"#)),
            ".resourceName",
            "is no resource",
        ),
        (
            resource("one", &format!(r#""deviceType": "gpu", {selectors}"#)),
            ".deviceType",
            "is no device type",
        ),
        (
            resource("one", &format!(r#"{selectors}, "additionalInfo": {{"a b": {{}}}}"#)),
            ".additionalInfo.a b",
            "is no device",
        ),
        (
            resource("one", &format!(r#"{selectors}, "additionalInfo": {{"*": {{"n": []}}}}"#)),
            ".additionalInfo.*.n",
            "a list where a text belongs",
        ),
        ("{}".to_owned(), "", "no `resourceName` is given"),
    ] {
        assert_refused(&list(&[text]), &format!("resourceList[0]{field}"), why);
    }
    let twice = list(&[resource("one", selectors), resource("one", selectors)]);
    assert_refused(&twice, "resourceList[1].resourceName", "`intel.com/one` is there already");
    let sub_function = resource(
        "one",
        r#""deviceType": "auxNetDevice", "selectors": [{"auxTypes": ["sf"]}], "additionalInfo": {"0000:08:00.0": {}}"#,
    );
    assert_refused(
        &list(&[sub_function]),
        "resourceList[0].additionalInfo.0000:08:00.0",
        "names no sub-function",
    );
}

#[test]
fn a_file_of_ours_with_a_list_is_none_of_theirs() {
    let error = Config::parse("config.yaml", "apiVersion: doorbell.dev/v1\npools: []\nresourceList: []\n");
    assert!(error.unwrap_err().to_string().starts_with("config.yaml:3: resourceList: unknown field"));
}

#[test]
fn what_is_no_json_is_refused_with_its_line() {
    let error =
        Config::parse("config.json", "{\n\"resourceList\": [{\n{\"resourceName\": \"one\"}]\n}").unwrap_err();
    assert!(error.to_string().starts_with("config.json:"), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[test]
fn all_of_it_is_named_with_its_line_and_the_error_is_one_line() {
    let text = "{\"resourceList\": [\n{\"resourceName\": \"a\",\n\"selectors\": {\"isRdma\": true,\n\"pKeys\": [\"0x1\"]}},\n{\"resourceName\": \"b\"}]}";
    let error = Config::parse("config.json", text).unwrap_err();
    let ConfigError::Unmappable { refused, .. } = &error else { panic!("{error}") };
    assert_eq!(refused.iter().map(|remark| remark.line).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(
        error.to_string(),
        "config.json:3: resourceList[0].selectors.isRdma: pods get no RDMA nodes here: leave the resource with sriov-dp \
         (and 2 more: `convert` names them)"
    );
}
