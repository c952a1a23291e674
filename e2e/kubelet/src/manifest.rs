//! A DaemonSet's manifest as the pod that it becomes on this node: its containers, and its volumes made and mounted.
//! A field that is not known here is an error: what a test runs is all of what the manifest says.

mod objects;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::pod::{ContainerSpec, HostMount, PodSpec};
use objects::{
    Container, HostPath, HostPathType, Mount, Object, Pod, SecurityContext, UserContainer, UserPod, Variable,
    Volume,
};

/// Where a pod's volumes lie below the kubelet's folder, and a container's termination message.
const PODS: &str = "pods";
/// What this node is called.
const NODE: &str = "node";

/// Why a manifest is no pod.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not what is known here of Kubernetes' objects.
    #[error("{0}")]
    Read(String),
    /// It has none.
    #[error("the manifest has no {0}")]
    Lacks(String),
    /// A mount of a volume that the pod has not, or a volume of no known kind.
    #[error("volume {0} is not given, or of no kind that is known here")]
    Volume(String),
    /// The node is not as a volume wants it.
    #[error("hostPath type check failed: {} is not a {kind}", path.display())]
    HostPath {
        /// What it wants.
        path: PathBuf,
        /// What it should be.
        kind: String,
    },
    /// A file or folder of a volume could not be made.
    #[error("cannot make {}", path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The objects of a manifest.
#[derive(Clone, Debug)]
pub struct Manifest {
    objects: Vec<Object>,
}

impl Manifest {
    /// Reads the documents of a manifest.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let objects = serde_saphyr::from_multiple(text);
        Ok(Self { objects: objects.map_err(|error| ManifestError::Read(error.to_string()))? })
    }

    /// Gives a key of a ConfigMap another value, as who installs it does.
    pub fn configure(&mut self, map: &str, key: &str, value: &str) -> Result<(), ManifestError> {
        let lacks = || ManifestError::Lacks(format!("key {key} of ConfigMap {map}"));
        let maps = self.objects.iter_mut().filter_map(|object| match object {
            Object::ConfigMap(found) if found.metadata.name == map => Some(found),
            _ => None,
        });
        value.clone_into(maps.flat_map(|map| map.data.get_mut(key)).next().ok_or_else(lacks)?);
        Ok(())
    }

    /// The value of a ConfigMap's key.
    pub fn configured(&self, map: &str, key: &str) -> Result<&str, ManifestError> {
        let mut maps = self.objects.iter().filter_map(|object| match object {
            Object::ConfigMap(found) if found.metadata.name == map => found.data.get(key),
            _ => None,
        });
        let lacks = || ManifestError::Lacks(format!("key {key} of ConfigMap {map}"));
        maps.next().map(String::as_str).ok_or_else(lacks)
    }

    /// The pod that somebody makes of it, with the handler of its RuntimeClass.
    pub fn user_pod(&self) -> Result<PodSpec, ManifestError> {
        let pod = self.objects.iter().find_map(|object| match object {
            Object::Pod(pod) => Some(pod),
            _ => None,
        });
        let UserPod { metadata, spec, .. } = pod.ok_or_else(|| ManifestError::Lacks("Pod".to_owned()))?;
        let mut made = PodSpec::new(&metadata.name);
        if let Some(namespace) = &metadata.namespace {
            made = made.namespace(namespace);
        }
        if let Some(name) = &spec.runtime_class_name {
            let handler = self.objects.iter().find_map(|object| match object {
                Object::RuntimeClass(class) if class.metadata.name == *name => Some(&class.handler),
                _ => None,
            });
            let lacks = || ManifestError::Lacks(format!("RuntimeClass {name}"));
            made = made.runtime_handler(handler.ok_or_else(lacks)?);
        }
        for UserContainer { name, image, command, args, security_context, resources, .. } in &spec.containers
        {
            let mut container = ContainerSpec::new(name).command(command.iter().cloned()).args(args.clone());
            image.clone_into(&mut container.image);
            container.memory = resources.limits.memory;
            container.secure(security_context);
            for (resource, count) in &resources.limits.extended {
                container = container.resource(resource, *count);
            }
            made = made.container(container);
        }
        Ok(made)
    }

    /// The pod of its DaemonSet on this node. Its volumes are made below the kubelet's folder, and as they say.
    pub fn pod(&self, kubelet: &Path) -> Result<PodSpec, ManifestError> {
        let set = self.objects.iter().find_map(|object| match object {
            Object::DaemonSet(set) => Some(set),
            _ => None,
        });
        let set = set.ok_or_else(|| ManifestError::Lacks("DaemonSet".to_owned()))?;
        let Pod { host_network, host_pid, init_containers, containers, volumes, .. } =
            &set.spec.template.spec;
        let mut pod = PodSpec::new(&set.metadata.name).namespace(&set.metadata.namespace);
        (pod.host_network, pod.host_pid) = (*host_network, *host_pid);
        let folder = kubelet.join(PODS).join(pod.uid.as_str());
        let mut places = BTreeMap::new();
        for volume in volumes {
            places.insert(volume.name.as_str(), self.make(volume, &set.metadata.namespace, &folder)?);
        }
        for container in init_containers {
            pod = pod.init_container(as_container(container, &places, &folder)?);
        }
        for container in containers {
            pod = pod.container(as_container(container, &places, &folder)?);
        }
        Ok(pod)
    }

    /// Makes a volume, or sees that it is there; where it is.
    fn make(&self, volume: &Volume, namespace: &str, pod: &Path) -> Result<PathBuf, ManifestError> {
        let own = pod.join("volumes").join(&volume.name);
        match volume {
            Volume { host_path: Some(HostPath { path, kind }), .. } => {
                let is = match kind {
                    HostPathType::DirectoryOrCreate => {
                        make_folder(path, 0o755)?;
                        true
                    }
                    HostPathType::Directory => path.is_dir(),
                    HostPathType::File => path.is_file(),
                };
                let wrong = || ManifestError::HostPath { path: path.clone(), kind: format!("{kind:?}") };
                is.then(|| path.clone()).ok_or_else(wrong)
            }
            Volume { empty_dir: Some(_), .. } | Volume { projected: Some(_), .. } => {
                make_folder(&own, 0o777).map(|()| own)
            }
            Volume { config_map: Some(source), .. } => {
                let found = self.objects.iter().find_map(|object| match object {
                    Object::ConfigMap(map)
                        if map.metadata.name == source.name && map.metadata.namespace == namespace =>
                    {
                        Some(map)
                    }
                    _ => None,
                });
                let lacks = || ManifestError::Lacks(format!("ConfigMap {}", source.name));
                project(&found.ok_or_else(lacks)?.data, &own).map(|()| own)
            }
            _ => Err(ManifestError::Volume(volume.name.clone())),
        }
    }
}

fn as_container(
    container: &Container,
    places: &BTreeMap<&str, PathBuf>,
    pod: &Path,
) -> Result<ContainerSpec, ManifestError> {
    let Container {
        name,
        image,
        args,
        env,
        resources,
        security_context,
        termination_message_path,
        volume_mounts,
        ..
    } = container;
    let mut made = ContainerSpec::new(name).args(args.clone());
    image.clone_into(&mut made.image);
    for Variable { name, value, value_from } in env {
        let field = value_from.as_ref().map(|from| from.field_ref.field_path.as_str());
        made = match field {
            None => made.env(name, value),
            // The one field of the pod's that is known here.
            Some("spec.nodeName") => made.env(name, NODE),
            Some(other) => return Err(ManifestError::Lacks(format!("field {other}"))),
        };
    }
    made.secure(security_context);
    made.memory = resources.limits.memory;
    let message = pod.join("containers").join(name);
    make_folder(&message, 0o750)?;
    let message = message.join("termination");
    fs::write(&message, "").map_err(|source| ManifestError::Make { path: message.clone(), source })?;
    made = made.mount(&message, termination_message_path);
    for Mount { name, mount_path, read_only, mount_propagation } in volume_mounts {
        let place = places.get(name.as_str()).ok_or_else(|| ManifestError::Volume(name.clone()))?;
        made.mounts.push(HostMount {
            host: place.clone(),
            container: mount_path.clone(),
            read_only: *read_only,
            follows: mount_propagation.is_some(),
        });
    }
    Ok(made)
}

impl ContainerSpec {
    fn secure(&mut self, context: &SecurityContext) {
        self.dropped.clone_from(&context.capabilities.drop);
        self.capabilities.clone_from(&context.capabilities.add);
        self.privileged = context.privileged;
        self.read_only_root = context.read_only_root_filesystem;
    }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), ManifestError> {
    let failed = |source| ManifestError::Make { path: path.to_owned(), source };
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}

/// As the kubelet writes a ConfigMap, to swap it at once: the files in a folder of their own, a link to that, links to the
/// files through it.
fn project(data: &BTreeMap<String, String>, volume: &Path) -> Result<(), ManifestError> {
    const VERSION: &str = "..1";
    make_folder(&volume.join(VERSION), 0o755)?;
    let failed = |source| ManifestError::Make { path: volume.to_owned(), source };
    symlink(VERSION, volume.join("..data")).map_err(failed)?;
    for (key, value) in data {
        fs::write(volume.join(VERSION).join(key), value).map_err(failed)?;
        symlink(Path::new("..data").join(key), volume.join(key)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
apiVersion: v1
kind: ConfigMap
metadata: { name: c, namespace: kube }
data:
  config.yaml: |
    a: 1
---
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: d, namespace: kube }
spec:
  selector: { matchLabels: { app: d } }
  template:
    metadata: { labels: { app: d } }
    spec:
      automountServiceAccountToken: false
      hostPID: true
      containers:
      - name: a
        image: i:1
        args: [x]
        securityContext:
          capabilities: { drop: [ALL], add: [SYS_ADMIN] }
          readOnlyRootFilesystem: true
        terminationMessagePath: /t
        volumeMounts:
        - { name: config, mountPath: /etc/c, readOnly: true }
        - { name: shared, mountPath: /run/s }
        - { name: host, mountPath: /h, mountPropagation: HostToContainer }
      volumes:
      - name: config
        configMap: { name: c }
      - name: shared
        emptyDir: { medium: Memory }
      - name: host
        hostPath: { path: HOST, type: Directory }
";

    fn manifest(host: &Path) -> Manifest {
        Manifest::parse(&TEXT.replace("HOST", &host.display().to_string())).unwrap()
    }

    #[test]
    fn a_pod_has_what_its_manifest_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = manifest(folder.path());
        manifest.configure("c", "config.yaml", "a: 2\n").unwrap();
        let pod = manifest.pod(folder.path()).unwrap();
        assert!(pod.host_pid && !pod.host_network);
        let container = pod.find("a").unwrap();
        assert_eq!((container.image.as_str(), &container.args[..]), ("i:1", &["x".to_owned()][..]));
        assert_eq!([&container.dropped[..], &container.capabilities[..]], [["ALL"], ["SYS_ADMIN"]]);
        assert!(container.read_only_root && !container.privileged);
        let place = |path: &str| {
            container.mounts.iter().find(|mount| mount.container == Path::new(path)).unwrap().clone()
        };
        assert_eq!(fs::read_to_string(place("/etc/c").host.join("config.yaml")).unwrap(), "a: 2\n");
        assert!(place("/etc/c").read_only && !place("/run/s").read_only);
        assert!(place("/run/s").host.is_dir() && place("/t").host.is_file());
        assert_eq!(place("/h").host, folder.path());
        assert!(place("/h").follows && !place("/run/s").follows);
    }

    #[test]
    fn what_the_node_lacks_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = manifest(&folder.path().join("gone")).pod(folder.path()).unwrap_err().to_string();
        assert!(error.contains("gone is not a Directory"), "{error}");
    }

    #[test]
    fn a_field_that_is_not_known_is_an_error() {
        let error = Manifest::parse(&TEXT.replace("hostPID", "hostIPC")).unwrap_err().to_string();
        assert!(error.contains("hostIPC"), "{error}");
    }
}
