//! Runs one part's recipe: a shell script in namespaces of its own, with its log in a file and its steps told live.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use crate::files::FileError;
use crate::part::Part;

/// Where Debian's programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What decides how the mirror is reached, not what is fetched.
const PASSED: [&str; 4] = ["HOME", "http_proxy", "https_proxy", "no_proxy"];

/// How much of a failed recipe's log its error shows.
const TAIL_LINES: usize = 25;

/// Why a recipe made nothing.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// A file operation around it failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A step failed.
    #[error("step `{step}` of part {part} failed: {status}; {} ends:\n{tail}", log.display())]
    Step {
        /// The part that it makes.
        part: &'static str,
        /// The last step that it told of.
        step: String,
        /// How the shell ended.
        status: ExitStatus,
        /// The whole log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
}

/// Makes `part` in `folder`/out. `step` hears of each step as it starts.
pub(crate) fn run(
    part: &Part,
    folder: &Path,
    mirror: &str,
    log: &Path,
    step: &dyn Fn(&str),
) -> Result<(), RecipeError> {
    let (work, inputs) = (folder.join("work"), folder.join("inputs"));
    fs::create_dir_all(&work).map_err(FileError::on("create", &work))?;
    for (name, text) in part.inputs {
        let path = inputs.join(name);
        let parent = path.parent().unwrap_or(&inputs);
        fs::create_dir_all(parent).map_err(FileError::on("create", parent))?;
        fs::write(&path, text).map_err(FileError::on("write", &path))?;
    }
    let mut log_file = File::create(log).map_err(FileError::on("create", log))?;

    // A recipe must not outlive its builder, nor any process or mount outlive the recipe: it is the first process of a
    // process namespace, which dies with its parent, and its mounts are its own.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-eu", "-c", &part.script()])
        // A variable of the host (ARCH, MAKEFLAGS, …) would change what is built behind the cache's key.
        .env_clear()
        .env("PATH", PATH)
        .envs(PASSED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("WORK", &work)
        .env("OUT", folder.join("out"))
        .env("INPUTS", &inputs)
        .env("TMPDIR", &work)
        .env("MIRROR", mirror)
        .env("JOBS", thread::available_parallelism().map_or(1, usize::from).to_string())
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(FileError::on("start setpriv and unshare for", &work))?;

    let mut last_step = "start".to_owned();
    let mut tail = VecDeque::new();
    let mut output = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut line = Vec::new();
    while output
        .read_until(b'\n', &mut line)
        .map_err(FileError::on("read the output of the recipe in", &work))?
        > 0
    {
        log_file.write_all(&line).map_err(FileError::on("write", log))?;
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Some(name) = text.strip_prefix("@step ") {
            step(name);
            name.clone_into(&mut last_step);
        }
        tail.push_back(text);
        if tail.len() > TAIL_LINES {
            tail.pop_front();
        }
        line.clear();
    }
    let status = child.wait().map_err(FileError::on("wait for the recipe in", &work))?;
    if status.success() {
        return Ok(());
    }
    let tail = tail.make_contiguous().join("\n");
    Err(RecipeError::Step { part: part.name, step: last_step, status, log: log.to_owned(), tail })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_recipe(recipe: &'static str) -> (tempfile::TempDir, Vec<String>, Result<(), RecipeError>) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("out")).unwrap();
        let part = Part { name: "p", recipe, inputs: &[("a/b", "input")] };
        let steps = std::cell::RefCell::new(Vec::new());
        let step = |name: &str| steps.borrow_mut().push(name.to_owned());
        let made = run(&part, folder.path(), "http://mirror.example", &folder.path().join("p.log"), &step);
        (folder, steps.into_inner(), made)
    }

    #[test]
    fn recipe_fills_out_from_its_inputs() {
        let (folder, steps, made) = run_recipe("step copy\ncp \"$INPUTS/a/b\" \"$OUT/c\"\n");
        made.unwrap();
        assert_eq!(steps, ["copy"]);
        assert_eq!(fs::read_to_string(folder.path().join("out/c")).unwrap(), "input");
    }

    #[test]
    fn failed_step_is_named_with_the_end_of_its_log() {
        let (folder, steps, made) = run_recipe("step one\necho fine\nstep two\necho broken >&2\nfalse\n");
        let text = made.unwrap_err().to_string();
        assert_eq!(steps, ["one", "two"]);
        assert!(text.starts_with("step `two` of part p failed: exit status: 1; "), "{text}");
        assert!(text.contains(folder.path().join("p.log").to_str().unwrap()), "{text}");
        assert!(text.ends_with("@step two\nbroken"), "{text}");
    }
}
