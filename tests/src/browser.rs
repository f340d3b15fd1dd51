//! A real Chromium, driven by the WebDriver protocol (<https://www.w3.org/TR/webdriver2/>) of its own chromedriver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::files;
use crate::wait::eventually;

/// The key that a WebDriver sends for Tab.
pub const TAB: &str = "\u{e004}";
/// The key that a WebDriver sends for Enter.
pub const ENTER: &str = "\u{e007}";

/// A browser with one page. It ends with this.
pub struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    /// A browser without a window, 1200 pixels wide.
    ///
    /// # Panics
    ///
    /// When Chromium or its driver is not installed, or they do not start.
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("chromedriver: {error}; install it with `apt-get install chromium chromium-driver`")
            });
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.into_iter().find_map(|line| {
            let port = line.strip_suffix('.')?.rsplit_once("successfully on port ")?.1;
            port.parse::<u16>().ok()
        });
        let port = port.expect("chromedriver tells its port");
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{port}/session") };
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--window-size=1200,900",
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            // Those of tests are signed by nobody.
            "acceptInsecureCerts": true,
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.post("", &wanted);
        let id = session["sessionId"].as_str().unwrap_or_else(|| panic!("{session}"));
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let answer = agent().post(&url).send(body.to_string());
        value(answer.unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    /// Goes to an address.
    pub fn go(&self, url: &str) {
        let gone = self.post("/url", &json!({"url": url}));
        assert!(gone.is_null(), "{gone}");
    }

    /// What a script of the page returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Presses keys, one after the other, where the focus is.
    pub fn press(&self, keys: &str) {
        let one =
            |key: char| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions: Vec<Value> = keys.chars().flat_map(one).collect();
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}));
    }

    /// Presses Tab until what has the focus has this name.
    pub fn tab_to(&self, name: &str) {
        let named = (0..60).any(|_| {
            self.press(TAB);
            self.run("return document.activeElement.textContent.trim()") == name
        });
        assert!(named, "Tab does not lead to {name}");
    }

    /// The text of the page that can be seen.
    pub fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until all of this is to be seen.
    pub fn shows(&self, texts: &[&str]) -> String {
        eventually(&format!("{texts:?} is seen"), || {
            let shown = self.text();
            texts.iter().all(|text| shown.contains(text)).then_some(shown)
        })
    }

    /// The roles and names of what matches, as a screen reader has them.
    pub fn accessible(&self, selector: &str) -> Vec<(String, String)> {
        let found = self.post("/elements", &json!({"using": "css selector", "value": selector}));
        let elements = found.as_array().unwrap_or_else(|| panic!("{found}")).iter();
        elements
            .filter_map(|element| element.as_object()?.values().next()?.as_str())
            .map(|element| {
                ["computedrole", "computedlabel"].map(|of| self.get(&format!("/element/{element}/{of}")))
            })
            .map(|[role, label]| (role, label))
            .collect()
    }

    /// A text that the driver tells; empty of an element that is gone.
    fn get(&self, path: &str) -> String {
        let answer = agent().get(format!("{}{path}", self.session)).call().unwrap();
        value(answer).as_str().unwrap_or_default().to_owned()
    }

    /// Has the page drawn in dark or in light colours.
    pub fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        let command = json!({"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}});
        self.post("/goog/cdp/execute", &command);
    }

    /// What is seen is a picture of the documentation, made anew where `UPDATE_SAMPLES` is set.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn is_pictured(&self, name: &str) {
        let folder = files::root().join("docs/pictures");
        let file = folder.join(format!("{name}.png"));
        if env::var_os("UPDATE_SAMPLES").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, BASE64_STANDARD.decode(self.get("/screenshot")).unwrap()).unwrap();
        }
        assert!(file.is_file(), "{} is not there: UPDATE_SAMPLES=1 makes it", file.display());
    }

    /// What the browser complains of: errors of scripts, and what the page may not load.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({"type": "browser"}));
        let entries = log.as_array().unwrap_or_else(|| panic!("{log}")).iter();
        entries.filter_map(|entry| entry["message"].as_str()).map(str::to_owned).collect()
    }
}

/// What fails is told in answers.
fn agent() -> ureq::Agent {
    ureq::Agent::new_with_config(ureq::config::Config::builder().http_status_as_error(false).build())
}

/// What an answer of the driver tells.
fn value(mut answer: ureq::http::Response<ureq::Body>) -> Value {
    // Pictures are large.
    let text = answer.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["value"].clone()
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session; it would outlive its driver.
        let _ = ureq::delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
