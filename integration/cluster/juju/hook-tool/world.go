package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// world is what Juju's controller would know.
type world struct {
	App         string                  `json:"app"`
	Unit        string                  `json:"unit"`
	Config      map[string]any          `json:"config"`
	Leader      []bool                  `json:"leader"` // one a call of is-leader; the last stays
	Units       map[string]string       `json:"units"`
	Relations   map[string]*relationBag `json:"relations"` // by id
	State       map[string]string       `json:"state"`
	UnitStatus  statusOf                `json:"unit-status"`
	AppStatus   statusOf                `json:"app-status"`
	Version     string                  `json:"version"`
	Resources   map[string]string       `json:"resources"` // path by name
	Addresses   []string                `json:"addresses"`
	Action      *action                 `json:"action,omitempty"`
	Faults      []*fault                `json:"faults"`
	Logs        []string                `json:"logs"`
	HookRelated string                  `json:"hook-relation"` // id of the relation that the hook is about
	RemoteUnit  string                  `json:"remote-unit"`
	RemoteApp   string                  `json:"remote-app"`

	txn transaction
}

type relationBag struct {
	Endpoint   string                       `json:"endpoint"`
	RemoteApp  string                       `json:"remote-app"`
	RemoteUnit map[string]map[string]string `json:"remote-units"`
	RemoteBag  map[string]string            `json:"remote-app-bag"`
	AppBag     map[string]string            `json:"app-bag"`
	UnitBag    map[string]string            `json:"unit-bag"`
}

type statusOf struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type action struct {
	Name    string         `json:"name"`
	Params  map[string]any `json:"params"`
	Results map[string]any `json:"results"`
	Failed  bool           `json:"failed"`
	Message string         `json:"message"`
	Log     []string       `json:"log"`
}

type fault struct {
	Tool    string `json:"tool"`
	Nth     int    `json:"nth"` // 0: every call
	Exit    int    `json:"exit"`
	Stderr  string `json:"stderr"`
	DelayMS int    `json:"delay_ms"`
	Seen    int    `json:"seen"`
}

// transaction is what is written when the hook ends well. An empty text deletes.
type transaction struct {
	State    map[string]string            `json:"state"`
	AppBags  map[string]map[string]string `json:"app-bags"`
	UnitBags map[string]map[string]string `json:"unit-bags"`
}

func load(folder string) (*world, error) {
	w := &world{}
	text, err := os.ReadFile(filepath.Join(folder, "world.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, w); err != nil {
		return nil, err
	}
	w.txn = transaction{State: map[string]string{}, AppBags: map[string]map[string]string{}, UnitBags: map[string]map[string]string{}}
	text, err = os.ReadFile(filepath.Join(folder, "txn.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return nil, err
	}
	return w, json.Unmarshal(text, &w.txn)
}

func (w *world) save(folder string, done call) error {
	if err := write(filepath.Join(folder, "world.json"), w); err != nil {
		return err
	}
	if err := write(filepath.Join(folder, "txn.json"), w.txn); err != nil {
		return err
	}
	line, err := json.Marshal(done)
	if err != nil {
		return err
	}
	calls, err := os.OpenFile(filepath.Join(folder, "calls.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer calls.Close()
	_, err = calls.Write(append(line, '\n'))
	return err
}

// fault is the one that this call of the tool meets.
func (w *world) fault(tool string) *fault {
	var met *fault
	for _, f := range w.Faults {
		if f.Tool != tool {
			continue
		}
		f.Seen++
		if f.Nth == 0 || f.Nth == f.Seen {
			met = f
		}
	}
	return met
}
