//! What a node's files say about CDI.

use std::fs;

use super::*;

const ETC: &str = "/etc/containerd/config.toml";
const V2: &str = "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\n";
const V3: &str = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n";

/// A node with these files.
fn node(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path());
    for (path, text) in files {
        let path = host.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    (root, host)
}

fn config(text: &str) -> Config {
    Config::parse("pools.yaml", &format!("apiVersion: doorbell.dev/v1\npools: []\n{text}")).unwrap()
}

fn choice(files: &[(&str, &str)]) -> CdiChoice {
    cdi(&node(files).1, &config(""))
}

fn containerd(text: &str) -> CdiChoice {
    choice(&[(ETC, text)])
}

fn off(reason: &str) -> CdiChoice {
    CdiChoice::off(reason)
}

#[test]
fn the_config_has_the_last_word() {
    let (_root, host) = node(&[(ETC, V3)]);
    assert!(!cdi(&host, &config("cdi: false")).on);
    assert!(cdi(&node(&[]).1, &config("cdi: true")).on);
}

#[test]
fn containerd_2_takes_cdi_unless_told_otherwise() {
    assert!(containerd("version = 3\n").on);
    assert!(containerd(V3).on);
    assert!(containerd(&format!("{V3}enable_cdi = true")).on);
    assert_eq!(
        containerd(&format!("{V3}enable_cdi = false")),
        off("/etc/containerd/config.toml has enable_cdi = false")
    );
    assert!(containerd("version = 4\n").on);
}

#[test]
fn containerd_1_7_takes_cdi_only_when_told() {
    assert!(containerd(&format!("{V2}enable_cdi = true")).on);
    for text in [V2, "version = 2\n", &format!("{V2}enable_cdi = false"), &V3.replace('3', "2")] {
        assert!(!containerd(text).on, "{text}");
    }
    assert!(!containerd("").on);
    assert!(!containerd("[plugins.cri]\nenable_cdi = true\n").on);
}

#[test]
fn specifications_have_to_be_read_where_ours_are() {
    let dirs = |dirs: &str| containerd(&format!("{V3}cdi_spec_dirs = [{dirs}]"));
    assert_eq!(
        dirs("'/etc/cdi'"),
        off("cdi_spec_dirs of /etc/containerd/config.toml leaves out /var/run/cdi")
    );
    assert!(!dirs("").on);
    assert!(dirs("'/etc/cdi', '/var/run/cdi/'").on);
    assert!(dirs("'/run/cdi'").on);
}

#[test]
fn imported_files_are_merged_over() {
    let main = |import: &str| format!("imports = ['{import}']\n{V2}enable_cdi = false");
    let on = format!("{V2}enable_cdi = true");
    let import = |path: &str, at: &str| choice(&[(ETC, &main(path)), (at, &on)]).on;
    assert!(import("/etc/containerd/conf.d/cdi.toml", "/etc/containerd/conf.d/cdi.toml"));
    assert!(import("conf.d/cdi.toml", "/etc/containerd/conf.d/cdi.toml"));
    assert!(import("/etc/containerd/conf.d/*.toml", "/etc/containerd/conf.d/cdi.toml"));
    assert!(!import("/etc/containerd/conf.d/*.toml", "/etc/containerd/conf.d/cdi.bak"));
    assert!(!import("/etc/containerd/conf.d/*.toml", "/etc/other.toml"));
}

#[test]
fn an_older_import_speaks_for_the_plugin_that_it_becomes() {
    let main = format!("imports = ['old.toml']\n{V3}");
    assert!(!choice(&[(ETC, &main), ("/etc/containerd/old.toml", &format!("{V2}enable_cdi = false"))]).on);
}

#[test]
fn a_section_that_1_7_would_replace_does_not_count() {
    let main = format!("imports = ['more.toml']\n{V2}enable_cdi = true");
    assert!(!choice(&[(ETC, &main), ("/etc/containerd/more.toml", V2)]).on);
}

#[test]
fn imports_in_a_circle_end() {
    let (a, b) = (format!("imports = ['b.toml']\n{V3}"), format!("imports = ['config.toml']\n{V3}"));
    assert!(choice(&[(ETC, &a), ("/etc/containerd/b.toml", &b)]).on);
}

#[test]
fn what_cannot_be_followed_is_off_with_its_reason() {
    assert_eq!(
        containerd("imports = ['none.toml']\n"),
        off("read /etc/containerd/none.toml: No such file or directory (os error 2)")
    );
    let reason = containerd("imports = ['*/a.toml']\n").reason;
    assert!(
        reason.starts_with("/etc/containerd/config.toml imports `*/a.toml`: only the last part"),
        "{reason}"
    );
    let reason = containerd("version = 3\n[plugins\n").reason;
    assert!(reason.starts_with("/etc/containerd/config.toml:2: ") && !reason.contains('\n'), "{reason}");
    let reason = containerd(&format!("{V3}enable_cdi = 'yes'\n")).reason;
    assert!(reason.starts_with("/etc/containerd/config.toml:3: invalid type"), "{reason}");
}

#[test]
fn the_file_that_the_config_names_is_the_one() {
    let (_root, host) = node(&[(ETC, V3), ("/opt/c.toml", &format!("{V3}enable_cdi = false"))]);
    assert!(!cdi(&host, &config("containerdConfig: /opt/c.toml")).on);
    let gone = cdi(&host, &config("containerdConfig: /opt/none.toml"));
    assert_eq!(gone, off("read /opt/none.toml: No such file or directory (os error 2)"));
}

#[test]
fn each_distribution_is_looked_for_where_it_has_its_file() {
    for path in CONTAINERD {
        assert!(choice(&[(path, V3)]).on, "{path}");
    }
}

#[test]
fn a_containerd_without_cri_is_not_the_kubelets() {
    let docker = "disabled_plugins = ['cri']\n";
    assert_eq!(containerd(docker), off("the CRI plugin is disabled in /etc/containerd/config.toml"));
    assert!(choice(&[(ETC, docker), (CONTAINERD[1], V3)]).on);
}

#[test]
fn cri_o_always_takes_cdi() {
    for path in ["/etc/crio/crio.conf", "/run/crio/crio.sock"] {
        assert!(choice(&[(path, "")]).on, "{path}");
    }
    assert_eq!(choice(&[]), off("no config of containerd and no CRI-O is seen"));
}
