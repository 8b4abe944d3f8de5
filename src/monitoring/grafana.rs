//! How Grafana 10 and 11 write dashboards: <https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/>.

use serde_json::{Value, json};

/// Version of the dashboard's schema: Grafana 10.4's. Newer ones migrate it as they load it.
const SCHEMA_VERSION: u32 = 39;
/// Columns of the grid.
pub(super) const COLUMNS: u32 = 24;
/// The variable with the data source.
const DATASOURCE: &str = "prometheusds";

/// A dashboard.
pub(super) struct Dashboard {
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) variables: Vec<Variable>,
    pub(super) rows: Vec<Row>,
}

/// A choice at the top: a label, all of its values unless some are chosen.
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    /// The series whose label of that name is asked for.
    pub(super) series: String,
}

/// Panels under a title.
pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: Vec<Panel>,
}

/// A panel.
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// In plain words: what is seen, and what is good.
    pub(super) description: &'static str,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) unit: Unit,
    pub(super) shows: Shows,
    pub(super) targets: Vec<Target>,
}

/// A query, and what its series are called.
pub(super) struct Target {
    pub(super) expression: String,
    pub(super) legend: &'static str,
}

/// How a panel shows its queries.
pub(super) enum Shows {
    /// Over time, as lines.
    Lines,
    /// Over time, as bars on top of each other: of what adds up.
    Bars,
    /// The last value, large.
    Number(Vec<Step>),
    /// The last value as a word, large.
    DaemonStatus(Vec<Mapping>),
    /// Values as words, over time.
    Timeline(Vec<Mapping>),
    /// Last values by label: fields with their headings, in order. Others are left out.
    Table(&'static [(&'static str, &'static str)], &'static [&'static str]),
}

/// A word for a value.
pub(super) struct Mapping {
    pub(super) value: usize,
    pub(super) word: &'static str,
    pub(super) color: Color,
}

/// From this value on, this colour.
pub(super) struct Step {
    pub(super) from: f64,
    pub(super) color: Color,
}

/// A colour, by what it says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Color {
    Good,
    Active,
    Attention,
    Bad,
    Aside,
    Plain,
}

impl Color {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "green",
            Self::Active => "blue",
            Self::Attention => "yellow",
            Self::Bad => "red",
            // Grafana's palette has no grey.
            Self::Aside => "#8e8e8e",
            Self::Plain => "text",
        }
    }
}

/// What values are counted in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    /// Things.
    Count,
    /// Time.
    Seconds,
    /// From 0 to 1.
    Share,
    /// Requests a second.
    Requests,
}

impl Unit {
    fn word(self) -> &'static str {
        match self {
            Self::Count => "none",
            Self::Seconds => "s",
            Self::Share => "percentunit",
            Self::Requests => "reqps",
        }
    }
}

impl Dashboard {
    /// As Grafana imports it.
    pub(super) fn to_json(&self) -> Value {
        let mut variables = vec![json!({
            "name": DATASOURCE, "label": "Data source", "type": "datasource", "query": "prometheus",
            "refresh": 1, "regex": "", "hide": 0, "multi": false, "includeAll": false,
            "current": {}, "options": [], "skipUrlSync": false,
        })];
        variables.extend(self.variables.iter().map(Variable::to_json));
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["kubeflow", "kubernetes", "trainer"],
            "id": null,
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "time": {"from": "now-6h", "to": "now"},
            "timepicker": {},
            "timezone": "",
            "refresh": "30s",
            "fiscalYearStartMonth": 0,
            "weekStart": "",
            "links": [],
            "annotations": {"list": []},
            "templating": {"list": variables},
            "panels": self.panels(),
        })
    }

    /// Rows and panels in reading order: a panel goes to the next line where it does not fit on this one.
    fn panels(&self) -> Vec<Value> {
        let mut panels: Vec<Value> = Vec::new();
        let mut y = 0;
        for row in &self.rows {
            let place = json!({"x": 0, "y": y, "w": COLUMNS, "h": 1});
            panels.push(json!({
                "id": panels.len() + 1, "type": "row", "title": row.title, "collapsed": false,
                "gridPos": place, "panels": [],
            }));
            y += 1;
            let (mut x, mut height) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    y += height;
                    (x, height) = (0, 0);
                }
                let place = json!({"x": x, "y": y, "w": panel.width, "h": panel.height});
                panels.push(panel.to_json(panels.len() + 1, &place));
                x += panel.width;
                height = height.max(panel.height);
            }
            y += height;
        }
        panels
    }
}

impl Variable {
    fn to_json(&self) -> Value {
        let query = format!("label_values({}, {})", self.series, self.name);
        json!({
            "name": self.name, "label": self.label, "type": "query", "datasource": datasource(),
            "definition": query, "query": {"query": query, "refId": self.name},
            "refresh": 2, "regex": "", "sort": 1, "hide": 0, "multi": true, "includeAll": true,
            "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
            "options": [], "skipUrlSync": false,
        })
    }
}

impl Panel {
    fn to_json(&self, id: usize, place: &Value) -> Value {
        let Form { kind, custom, options, color, mappings, thresholds, transformations } = self.shows.form();
        // A to Z: no panel has more queries.
        let targets = self.targets.iter().zip('A'..='Z');
        let targets = targets.map(|(target, letter)| target.to_json(letter, &self.shows));
        json!({
            "id": id,
            "type": kind,
            "title": self.title,
            "description": self.description,
            "datasource": datasource(),
            "gridPos": place,
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit.word(), "color": {"mode": color}, "custom": custom,
                    "mappings": mappings, "thresholds": {"mode": "absolute", "steps": thresholds},
                },
                "overrides": [],
            },
            "options": options,
            "targets": targets.collect::<Vec<_>>(),
            "transformations": transformations,
        })
    }
}

impl Target {
    fn to_json(&self, letter: char, shows: &Shows) -> Value {
        // What shows only the last value asks for no others.
        let instant = matches!(shows, Shows::Number(_) | Shows::DaemonStatus(_) | Shows::Table(..));
        let format = if matches!(shows, Shows::Table(..)) { "table" } else { "time_series" };
        json!({
            "refId": letter.to_string(), "datasource": datasource(), "editorMode": "code",
            "expr": self.expression, "legendFormat": self.legend, "format": format,
            "instant": instant, "range": !instant,
        })
    }
}

/// What Grafana needs to know of a way of showing.
struct Form {
    kind: &'static str,
    custom: Value,
    options: Value,
    /// Where colours come from.
    color: &'static str,
    mappings: Value,
    thresholds: Value,
    transformations: Value,
}

impl Form {
    fn new(kind: &'static str, custom: Value, options: Value) -> Self {
        let thresholds = json!([{"value": null, "color": Color::Good.word()}]);
        let (mappings, transformations) = (json!([]), json!([]));
        Self { kind, custom, options, color: "palette-classic", mappings, thresholds, transformations }
    }
}

impl Shows {
    fn form(&self) -> Form {
        let tooltip = json!({"mode": "multi", "sort": "desc"});
        let legend = |shown: bool| {
            json!({
                "showLegend": shown, "displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"],
            })
        };
        let series = |custom: Value| {
            Form::new("timeseries", custom, json!({"legend": legend(true), "tooltip": tooltip}))
        };
        let stat = |colored: &str| {
            json!({
                "colorMode": colored, "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
                "textMode": "auto", "wideLayout": true,
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            })
        };
        match self {
            Self::Lines => series(json!({
                "drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "auto", "spanNulls": false,
                "axisSoftMin": 0, "stacking": {"mode": "none", "group": "A"},
            })),
            Self::Bars => series(json!({
                "drawStyle": "bars", "lineWidth": 0, "fillOpacity": 80, "showPoints": "never", "spanNulls": false,
                "axisSoftMin": 0, "stacking": {"mode": "normal", "group": "A"},
            })),
            Self::Number(steps) => {
                let step = |step: &Step| json!({"value": step.from, "color": step.color.word()});
                let first = json!({"value": null, "color": Color::Plain.word()});
                let thresholds = std::iter::once(first).chain(steps.iter().map(step)).collect();
                Form { color: "thresholds", thresholds, ..Form::new("stat", json!({}), stat("value")) }
            }
            Self::DaemonStatus(words) => Form {
                color: "thresholds",
                mappings: mappings(words),
                ..Form::new("stat", json!({}), stat("background"))
            },
            Self::Timeline(words) => {
                let options = json!({
                    "alignValue": "left", "mergeValues": true, "rowHeight": 0.8, "showValue": "auto",
                    "legend": legend(false), "tooltip": tooltip,
                });
                let custom = json!({"fillOpacity": 80, "lineWidth": 0});
                let form = Form::new("state-timeline", custom, options);
                Form { color: "thresholds", mappings: mappings(words), ..form }
            }
            Self::Table(columns, hidden) => {
                let options = json!({"showHeader": true, "cellHeight": "sm", "footer": {"show": false}});
                let fields = |of: &dyn Fn(usize) -> Value| -> Value {
                    let columns = columns.iter().enumerate();
                    columns.map(|(at, (field, _))| ((*field).to_owned(), of(at))).collect()
                };
                let organize = json!({
                    "indexByName": fields(&|at| json!(at)),
                    "renameByName": fields(&|at| json!(columns[at].1)),
                    "excludeByName": hidden.iter().map(|field| ((*field).to_owned(), json!(true))).collect::<Value>(),
                });
                let transformations =
                    json!([{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]);
                let custom = json!({"align": "auto", "cellOptions": {"type": "auto"}});
                Form { color: "thresholds", transformations, ..Form::new("table", custom, options) }
            }
        }
    }
}

fn mappings(words: &[Mapping]) -> Value {
    let word = |(at, mapping): (usize, &Mapping)| {
        let shown = json!({"text": mapping.word, "color": mapping.color.word(), "index": at});
        (mapping.value.to_string(), shown)
    };
    let options: Value = words.iter().enumerate().map(word).collect();
    json!([{"type": "value", "options": options}])
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": format!("${{{DATASOURCE}}}")})
}
