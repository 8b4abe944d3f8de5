package main

import (
	"math"
	"sort"
	"strconv"
	"time"

	"github.com/juju/charm/v12"
	"github.com/juju/errors"
	"github.com/juju/loggo"
	"github.com/juju/names/v5"

	"github.com/juju/juju/core/application"
	"github.com/juju/juju/core/life"
	corerelation "github.com/juju/juju/core/relation"
	"github.com/juju/juju/internal/worker/uniter/runner/jujuc"
	"github.com/juju/juju/rpc/params"
)

// context tells Juju's tools of a world.
type context struct {
	jujuc.RestrictedContext
	world *world
	tool  string
}

func (c *context) UnitName() string { return c.world.Unit }

func (c *context) ConfigSettings() (charm.Settings, error) {
	settings := charm.Settings{}
	for name, value := range c.world.Config {
		// JSON has one kind of number, Juju two.
		if number, is := value.(float64); is && number == math.Trunc(number) {
			value = int64(number)
		}
		settings[name] = value
	}
	return settings, nil
}

func (c *context) GoalState() (*application.GoalState, error) {
	now := time.Now()
	units := application.UnitsGoalState{}
	for name, word := range c.world.Units {
		units[name] = application.GoalStateStatus{Status: word, Since: &now}
	}
	return &application.GoalState{Units: units, Relations: map[string]application.UnitsGoalState{}}, nil
}

func (c *context) GetCharmState() (map[string]string, error) {
	return overlay(c.world.State, c.world.txn.State), nil
}

func (c *context) GetCharmStateValue(key string) (string, error) {
	value, is := overlay(c.world.State, c.world.txn.State)[key]
	if !is {
		return "", errors.NotFoundf("%q", key)
	}
	return value, nil
}

func (c *context) SetCharmStateValue(key, value string) error {
	c.world.txn.State[key] = value
	return nil
}

func (c *context) DeleteCharmStateValue(key string) error { return c.SetCharmStateValue(key, "") }

func (c *context) UnitStatus() (*jujuc.StatusInfo, error) {
	s := c.world.UnitStatus
	return &jujuc.StatusInfo{Tag: c.world.Unit, Status: s.Status, Info: s.Message, Data: map[string]any{}}, nil
}

func (c *context) SetUnitStatus(s jujuc.StatusInfo) error {
	c.world.UnitStatus = statusOf{Status: s.Status, Message: s.Info}
	return nil
}

func (c *context) ApplicationStatus() (jujuc.ApplicationStatusInfo, error) {
	if leader, err := c.IsLeader(); err != nil || !leader {
		return jujuc.ApplicationStatusInfo{}, errors.Errorf("this unit is not the leader")
	}
	s := c.world.AppStatus
	app := jujuc.StatusInfo{Tag: c.world.App, Status: s.Status, Info: s.Message, Data: map[string]any{}}
	unit, err := c.UnitStatus()
	return jujuc.ApplicationStatusInfo{Application: app, Units: []jujuc.StatusInfo{*unit}}, err
}

func (c *context) SetApplicationStatus(s jujuc.StatusInfo) error {
	if leader, err := c.IsLeader(); err != nil || !leader {
		return errors.Errorf("this unit is not the leader")
	}
	c.world.AppStatus = statusOf{Status: s.Status, Message: s.Info}
	return nil
}

// IsLeader consumes a word of the list only for the tool that asks: others would ask the same tracker at once.
func (c *context) IsLeader() (bool, error) {
	if len(c.world.Leader) == 0 {
		return false, errors.Errorf("leadership cannot be told")
	}
	leader := c.world.Leader[0]
	if c.tool == "is-leader" && len(c.world.Leader) > 1 {
		c.world.Leader = c.world.Leader[1:]
	}
	return leader, nil
}

func (c *context) NetworkInfo(names []string, _ int) (map[string]params.NetworkInfoResult, error) {
	result := params.NetworkInfoResult{Info: []params.NetworkInfo{{}}, IngressAddresses: c.world.Addresses}
	for _, address := range c.world.Addresses {
		result.Info[0].Addresses = append(result.Info[0].Addresses, params.InterfaceAddress{Address: address})
	}
	all := map[string]params.NetworkInfoResult{}
	for _, name := range names {
		all[name] = result
	}
	return all, nil
}

func (c *context) DownloadResource(name string) (string, error) {
	path, is := c.world.Resources[name]
	if !is {
		return "", errors.NotFoundf("resource %q", name)
	}
	return path, nil
}

func (c *context) Relation(id int) (jujuc.ContextRelation, error) {
	bag, is := c.world.Relations[strconv.Itoa(id)]
	if !is {
		return nil, errors.NotFoundf("relation %d", id)
	}
	return &relation{context: c, id: id, bag: bag}, nil
}

func (c *context) RelationIds() ([]int, error) {
	var ids []int
	for text := range c.world.Relations {
		id, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	sort.Ints(ids)
	return ids, nil
}

func (c *context) HookRelation() (jujuc.ContextRelation, error) {
	id, err := strconv.Atoi(c.world.HookRelated)
	if err != nil {
		return nil, errors.NotFoundf("the hook's relation")
	}
	return c.Relation(id)
}

func (c *context) RemoteUnitName() (string, error) {
	if c.world.RemoteUnit == "" {
		return "", errors.NotFoundf("the remote unit")
	}
	return c.world.RemoteUnit, nil
}

func (c *context) RemoteApplicationName() (string, error) {
	if c.world.RemoteApp == "" {
		return "", errors.NotFoundf("the remote application")
	}
	return c.world.RemoteApp, nil
}

func (c *context) ActionParams() (map[string]any, error) {
	if c.world.Action == nil {
		return nil, errors.Errorf("not running an action")
	}
	return c.world.Action.Params, nil
}

func (c *context) UpdateActionResults(keys []string, value any) error {
	if c.world.Action == nil {
		return errors.Errorf("not running an action")
	}
	at := c.world.Action.Results
	if at == nil {
		at = map[string]any{}
		c.world.Action.Results = at
	}
	for _, key := range keys[:len(keys)-1] {
		below, is := at[key].(map[string]any)
		if !is {
			below = map[string]any{}
			at[key] = below
		}
		at = below
	}
	at[keys[len(keys)-1]] = value
	return nil
}

func (c *context) SetActionMessage(message string) error {
	if c.world.Action == nil {
		return errors.Errorf("not running an action")
	}
	c.world.Action.Message = message
	return nil
}

func (c *context) SetActionFailed() error {
	if c.world.Action == nil {
		return errors.Errorf("not running an action")
	}
	c.world.Action.Failed = true
	return nil
}

func (c *context) LogActionMessage(message string) error {
	if c.world.Action == nil {
		return errors.Errorf("not running an action")
	}
	c.world.Action.Log = append(c.world.Action.Log, message)
	return nil
}

func (c *context) UnitWorkloadVersion() (string, error) { return c.world.Version, nil }

func (c *context) SetUnitWorkloadVersion(version string) error {
	c.world.Version = version
	return nil
}

func (c *context) WorkloadName() (string, error) { return "trainerd", nil }

func (c *context) GetLogger(module string) loggo.Logger {
	logs := loggo.NewContext(loggo.TRACE)
	// A context without a writer has nothing in its way.
	_ = logs.AddWriter("world", writer{c.world})
	return logs.GetLogger(module)
}

type writer struct{ world *world }

func (w writer) Write(entry loggo.Entry) {
	w.world.Logs = append(w.world.Logs, entry.Level.String()+" "+entry.Message)
}

// overlay is what is known with what this hook wrote; an empty text is a deletion.
func overlay(known, written map[string]string) map[string]string {
	all := map[string]string{}
	for key, value := range known {
		all[key] = value
	}
	for key, value := range written {
		if value == "" {
			delete(all, key)
		} else {
			all[key] = value
		}
	}
	return all
}

// relation is one of the world's, as the tools see it.
type relation struct {
	context *context
	id      int
	bag     *relationBag
}

func (r *relation) Id() int                             { return r.id }
func (r *relation) Name() string                        { return r.bag.Endpoint }
func (r *relation) FakeId() string                      { return r.bag.Endpoint + ":" + strconv.Itoa(r.id) }
func (r *relation) RemoteApplicationName() string       { return r.bag.RemoteApp }
func (r *relation) RemoteModelUUID() string             { return "" }
func (r *relation) Suspended() bool                     { return false }
func (r *relation) SetStatus(corerelation.Status) error { return nil }
func (r *relation) Life() life.Value                    { return life.Alive }

func (r *relation) RelationTag() names.RelationTag {
	return names.NewRelationTag(r.context.world.App + ":" + r.bag.Endpoint + " " + r.bag.RemoteApp + ":" + r.bag.Endpoint)
}

func (r *relation) UnitNames() []string {
	var all []string
	for name := range r.bag.RemoteUnit {
		all = append(all, name)
	}
	sort.Strings(all)
	return all
}

func (r *relation) Settings() (jujuc.Settings, error) {
	return bagOf(r.bag.UnitBag, r.context.world.txn.UnitBags, strconv.Itoa(r.id)), nil
}

func (r *relation) ApplicationSettings() (jujuc.Settings, error) {
	return bagOf(r.bag.AppBag, r.context.world.txn.AppBags, strconv.Itoa(r.id)), nil
}

func (r *relation) ReadSettings(unit string) (params.Settings, error) {
	if unit == r.context.world.Unit {
		settings, err := r.Settings()
		return settings.Map(), err
	}
	bag, is := r.bag.RemoteUnit[unit]
	if !is {
		return nil, errors.NotFoundf("unit %q", unit)
	}
	return params.Settings(bag), nil
}

func (r *relation) ReadApplicationSettings(app string) (params.Settings, error) {
	if app == r.context.world.App {
		// As the controller does: only leaders read what leaders write.
		if leader, err := r.context.IsLeader(); err != nil || !leader {
			return nil, errors.Errorf("permission denied")
		}
		settings, err := r.ApplicationSettings()
		return settings.Map(), err
	}
	return params.Settings(r.bag.RemoteBag), nil
}

// bag is a databag with what this hook wrote to it.
type bag struct {
	known   map[string]string
	written map[string]string
}

func bagOf(known map[string]string, all map[string]map[string]string, id string) bag {
	if all[id] == nil {
		all[id] = map[string]string{}
	}
	return bag{known: known, written: all[id]}
}

func (b bag) Map() params.Settings  { return params.Settings(overlay(b.known, b.written)) }
func (b bag) Set(key, value string) { b.written[key] = value }
func (b bag) Delete(key string)     { b.written[key] = "" }
