//! What shows a run and its model: the report, and the page that a model is tried on.

use std::fs;
use std::path::Path;

use crate::commands::trained;
use crate::support::{binary, stderr};

fn page(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_run_ends_with_a_page_that_shows_its_captions_and_loads_nothing() {
    let run = trained().join("run");
    let page = page(&run.join("report.html"));
    let predictions: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(run.join("predictions/test.json")).unwrap()).unwrap();
    for word in predictions[0]["caption"].as_str().unwrap().split_whitespace() {
        assert!(page.contains(word), "{word}");
    }
    assert!(page.contains("default-src &#x27;none&#x27;") || page.contains("default-src 'none'"));
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 12, "the split has so many images");
    for elsewhere in ["src=\"http", "href=\"http", "url(", "@import"] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    let scores: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("predictions/test.scores.json")).unwrap()).unwrap();
    let cider = format!("{:.3}", scores["report"]["scores"]["CIDEr"].as_f64().unwrap());
    assert!(page.contains(&cider) && page.contains("num_epochs"), "{cider}");
    let signature = scores["report"]["signature"].as_str().unwrap();
    assert!(page.contains(signature.split('|').next().unwrap()));
    let table = fs::read_to_string(run.join("results.csv")).unwrap();
    assert!(table.starts_with("epoch,step,learning_rate,train_loss,val_loss,") && table.lines().count() > 1, "{table}");
    let environment: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("environment.json")).unwrap()).unwrap();
    assert!(environment["processes"][0]["compute_threads"].as_u64().unwrap() > 0);
}

#[test]
fn a_report_without_the_data_set_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("moved");
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    let from = trained().join("run");
    for name in ["metrics.jsonl", "train.log", "checkpoints/last.safetensors"] {
        fs::copy(from.join(name), run.join(name)).unwrap();
    }
    let config = page(&from.join("config.resolved.toml"));
    let lines = config.lines().map(|line| match line.starts_with("directory = ") {
        true => "directory = \"gone\"",
        false => line,
    });
    fs::write(run.join("config.resolved.toml"), lines.collect::<Vec<_>>().join("\n")).unwrap();
    let output = binary().arg("report").arg(&run).output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the report has no data set: ") && text.contains("gone"), "{text}");
    let page = page(&run.join("report.html"));
    assert!(!page.contains("data:image/jpeg") && page.contains("moved"));

    let output = binary().arg("report").arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("is not a run folder"));
}

#[cfg(all(unix, feature = "serve"))]
mod page_to_try {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpStream;
    use std::process::{Command, Stdio};

    use crate::commands::{picture, trained};
    use crate::support::{binary, last_checkpoint};

    #[test]
    fn a_picture_that_is_sent_gets_the_caption_that_the_command_gives() {
        let checkpoint = last_checkpoint(&trained().join("run"));
        let mut server = binary()
            .args(["serve", "--port", "0", "--checkpoint"])
            .arg(&checkpoint)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().contains("open http://")).unwrap().unwrap();
        let address = line.split("http://").nth(1).unwrap().split(' ').next().unwrap().to_owned();

        let image = std::fs::read(picture()).unwrap();
        let mut stream = TcpStream::connect(&address).unwrap();
        let head = format!(
            "POST /api/caption?attention=true HTTP/1.1\r\nhost: {address}\r\ncontent-type: image/jpeg\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            image.len()
        );
        stream.write_all(&[head.as_bytes(), &image].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        let answer: serde_json::Value = serde_json::from_str(body).unwrap();

        let output = binary().args(["caption", "--checkpoint"]).arg(&checkpoint).arg(picture()).output().unwrap();
        let expected = String::from_utf8(output.stdout).unwrap();
        assert_eq!(answer["caption"], expected.trim_end().split_once('\t').unwrap().1);
        let words = answer["words"].as_array().unwrap();
        let patches = answer["patches"][0].as_u64().unwrap() * answer["patches"][1].as_u64().unwrap();
        assert!(!words.is_empty());
        assert!(words.iter().all(|word| word["attention"].as_array().unwrap().len() as u64 == patches));

        let signalled = Command::new("kill").args(["-TERM", &server.id().to_string()]).status().unwrap();
        assert!(signalled.success());
        assert!(server.wait().unwrap().success());
        assert!(lines.map_while(Result::ok).any(|line| line.contains("stopped")));
    }
}
