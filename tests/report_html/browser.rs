//! Reports in Chromium. Without chromedriver the tests are skipped, or fail if
//! `WALSIM_REQUIRE_CHROMIUM` is set.

use super::command::folder;
use super::webdriver::Browser;
use super::{SEED, failing, report, story};
use serde_json::{Value, json};

/// The browser, if it is installed.
#[expect(
    clippy::disallowed_methods,
    reason = "which tests run is no part of a simulated run"
)]
fn browser() -> Option<Browser> {
    let browser = Browser::start();
    if browser.is_none() {
        assert!(
            std::env::var_os("WALSIM_REQUIRE_CHROMIUM").is_none(),
            "chromedriver is not installed; ci/install-chromium installs it"
        );
        println!("skipped: chromedriver is not installed");
    }
    browser
}

/// Opens a page in a color scheme and a width.
fn open(browser: &Browser, name: &str, scheme: &str, width: u32) {
    let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
    browser.devtools("Emulation.setDeviceMetricsOverride", &size);
    let feature = json!({"name": "prefers-color-scheme", "value": scheme});
    browser.devtools(
        "Emulation.setEmulatedMedia",
        &json!({"features": [feature]}),
    );
    let path = folder().join(name);
    let url = format!("file://{}", path.to_str().expect("a path in UTF-8"));
    browser.command("/url", &json!({"url": url}));
}

fn is_clean(browser: &Browser, name: &str) {
    let log = browser.command("/se/log", &json!({"type": "browser"}));
    assert_eq!(log, json!([]), "{name}: the console has messages");
    let loaded = browser.eval("performance.getEntriesByType('resource').map(it => it.name)");
    assert_eq!(loaded, json!([]), "{name}: something is loaded");
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn reports_render_in_both_color_schemes_and_at_all_widths() {
    let Some(browser) = browser() else { return };
    failing("browser-fail.html");
    report("browser-pass.html", &[SEED]);
    for name in ["browser-fail.html", "browser-pass.html"] {
        let mut backgrounds = Vec::new();
        for (scheme, width) in [
            ("light", 400),
            ("light", 2000),
            ("dark", 400),
            ("dark", 1280),
        ] {
            open(&browser, name, scheme, width);
            is_clean(&browser, name);
            let scroll = number(&browser.eval("document.documentElement.scrollWidth"));
            assert!(scroll <= width.into(), "{name} is {scroll} wide at {width}");
            let drawn = "[...document.querySelectorAll('svg.spacetime a.ev use')].filter(it => {
                const box = it.getBoundingClientRect();
                return box.width > 4 && box.height > 4;
            }).length";
            let all = number(&browser.eval("document.querySelectorAll('a.ev').length"));
            assert!(all > 10, "{name}: {all} events in the diagram");
            assert_eq!(number(&browser.eval(drawn)), all, "{name}: signs of events");
            let lines = "document.querySelectorAll('svg.chart path.line').length";
            assert!(
                number(&browser.eval(lines)) > 4,
                "{name}: lines of the chart"
            );
            backgrounds.push(browser.eval("getComputedStyle(document.body).backgroundColor"));
        }
        assert_eq!(backgrounds[0], backgrounds[1]);
        assert_ne!(backgrounds[0], backgrounds[2], "{name} has a dark scheme");
    }
}

#[test]
fn no_label_is_clipped_and_none_overlaps() {
    let Some(browser) = browser() else { return };
    failing("browser-labels.html");
    open(&browser, "browser-labels.html", "light", 1600);
    let outside = "[...document.querySelectorAll('svg.spacetime, svg.chart')].flatMap(svg => {
        const frame = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(it => {
            const box = it.getBoundingClientRect();
            return box.right > frame.right + 1 || box.left < frame.left - 1
                || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
        }).map(it => it.textContent);
    })";
    assert_eq!(
        browser.eval(outside),
        json!([]),
        "labels outside of their picture"
    );
    let overlap = "['.spacetime .what', '.spacetime .who', '.chart .name', '.chart .tick'].flatMap(
        selector => {
            const boxes = [...document.querySelectorAll(selector)]
                .map(it => [it.getBoundingClientRect(), it.textContent]);
            return boxes.flatMap(([a, one], n) => boxes.slice(n + 1).filter(([b]) =>
                a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom
            ).map(([, other]) => one + ' / ' + other));
        })";
    assert_eq!(browser.eval(overlap), json!([]), "labels that overlap");
}

#[test]
fn the_diagram_shows_the_story() {
    let Some(browser) = browser() else { return };
    let (_, line) = failing("browser-story.html");
    open(&browser, "browser-story.html", "light", 1280);
    let told = "[...document.querySelectorAll('a.ev.told')].map(it => Number(it.id.slice(1)))";
    let told = browser.eval(told);
    let mut numbers = story(&line);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(told, json!(numbers));
}

#[test]
fn filters_and_keys_work() {
    let Some(browser) = browser() else { return };
    let (_, line) = failing("browser-keys.html");
    open(&browser, "browser-keys.html", "light", 1280);
    let shown = || {
        number(&browser.eval("document.querySelectorAll('.events tbody tr:not([hidden])').length"))
    };
    let all = shown();

    browser.press("/");
    assert_eq!(browser.eval("document.activeElement.name"), "text");
    browser.press("fsync");
    let some = shown();
    assert!(0 < some && some < all, "{some} of {all} rows have the word");
    let fits = "[...document.querySelectorAll('.events tbody tr:not([hidden])')]
        .every(row => row.textContent.includes('fsync'))";
    assert_eq!(browser.eval(fits), true);
    let said = browser.eval("document.querySelector('#shown').textContent");
    assert_eq!(said, json!(format!("{some} of {all} shown")));
    browser.press("\u{e00c}");
    let blurred =
        "(document.activeElement.blur(), document.querySelector('#filters').reset(), true)";
    assert_eq!(browser.eval(blurred), true);
    wait_for(
        &browser,
        &format!("document.querySelectorAll('.events tbody tr:not([hidden])').length === {all}"),
    );

    let choose =
        "(f => { f.kind.value = 'disk'; f.dispatchEvent(new Event('input')); return true })(
        document.querySelector('#filters'))";
    assert_eq!(browser.eval(choose), true);
    let kinds = "new Set([...document.querySelectorAll('.events tbody tr:not([hidden])')]
        .map(row => row.cells[4].textContent)).size";
    assert_eq!(number(&browser.eval(kinds)), 1);
    browser.press("\u{e00c}");
    wait_for(
        &browser,
        &format!("document.querySelectorAll('.events tbody tr:not([hidden])').length === {all}"),
    );

    browser.press("s");
    let mut numbers = story(&line);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(shown(), numbers.len() as u64, "only the story");
    browser.press("s");

    browser.press("j");
    let focused = || browser.eval("document.activeElement.id");
    let first = focused();
    assert_eq!(first, json!(format!("d{}", numbers[0])));
    browser.press("jk");
    assert_eq!(focused(), first);
    // Enter follows the link to the row of the event.
    browser.press("\u{e007}");
    assert_eq!(
        browser.eval("location.hash"),
        json!(format!("#e{}", numbers[0]))
    );

    browser.press("?");
    assert_eq!(browser.eval("document.querySelector('#help').open"), true);
    browser.press("\u{e00c}");
    wait_for(&browser, "!document.querySelector('#help').open");
    is_clean(&browser, "browser-keys.html");
}

/// Waits until a condition is true.
fn wait_for(browser: &Browser, condition: &str) {
    let script = "const done = arguments[0]; const end = performance.now() + 5000;
        (function look() {
            if (CONDITION) done(true);
            else if (performance.now() > end) done(false);
            else requestAnimationFrame(look);
        })()";
    let script = script.replace("CONDITION", condition);
    let met = browser.command("/execute/async", &json!({"script": script, "args": []}));
    assert_eq!(met, true, "{condition}");
}

/// Without JavaScript the page shows everything but the filters.
#[test]
fn the_page_can_be_read_without_javascript() {
    let Some(browser) = browser() else { return };
    failing("browser-plain.html");
    browser.devtools(
        "Emulation.setScriptExecutionDisabled",
        &json!({"value": true}),
    );
    open(&browser, "browser-plain.html", "light", 1280);
    browser.devtools(
        "Emulation.setScriptExecutionDisabled",
        &json!({"value": false}),
    );
    assert_eq!(
        browser.eval("document.querySelector('#filters').hidden"),
        true
    );
    let rows = browser.eval("document.querySelectorAll('.events tbody tr').length");
    assert!(number(&rows) > 10);
    let height = "document.querySelector('svg.spacetime').getBoundingClientRect().height";
    assert!(
        browser
            .eval(height)
            .as_f64()
            .is_some_and(|height| height > 100.0)
    );
}
