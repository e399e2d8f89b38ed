// Renders the chart as `helm template` does, where there is no helm: Go's templates with sprig and
// what helm adds to them, as far as this chart goes. deploy/render.sh calls it.
//
//	go run . RELEASE CHART NAMESPACE PROFILE.yaml
//
// What is not done: values are not held against values.schema.json (tests/deploy/chart_test.py does that for the profiles).
// A template's error, or a value that is used and not there, ends it with 1 and a line.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v2"
)

type object = map[string]interface{}

// Files under the chart, for .Files.Get and .Files.Glob; links are followed, as helm does.
type files map[string][]byte

func (f files) Get(name string) string { return string(f[name]) }

func (f files) Glob(pattern string) files {
	found := files{}
	for name, data := range f {
		if ok, _ := path.Match(pattern, name); ok {
			found[name] = data
		}
	}
	return found
}

func must(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "template: %v\n", err)
		os.Exit(1)
	}
}

// withStringKeys turns what YAML reads into what JSON would: templates index maps by strings.
func withStringKeys(value interface{}) interface{} {
	switch v := value.(type) {
	case map[interface{}]interface{}:
		made := object{}
		for key, item := range v {
			made[fmt.Sprint(key)] = withStringKeys(item)
		}
		return made
	case []interface{}:
		for i := range v {
			v[i] = withStringKeys(v[i])
		}
	}
	return value
}

func readYaml(name string) object {
	data, err := os.ReadFile(name)
	must(err)
	var value interface{}
	must(yaml.UnmarshalStrict(data, &value))
	if value == nil {
		return object{}
	}
	made, ok := withStringKeys(value).(object)
	if !ok {
		must(fmt.Errorf("%s holds no map", name))
	}
	return made
}

// merge lays `over` over `base`: maps key by key, null takes a key away, all else is replaced.
func merge(base, over object) object {
	for key, value := range over {
		inner, isMap := value.(object)
		under, wasMap := base[key].(object)
		switch {
		case value == nil:
			delete(base, key)
		case isMap && wasMap:
			base[key] = merge(under, inner)
		default:
			base[key] = value
		}
	}
	return base
}

func toYaml(value interface{}) (string, error) {
	data, err := yaml.Marshal(value)
	return strings.TrimSuffix(string(data), "\n"), err
}

// What is no JSON is an error here; helm has the error as a value.
func fromJson(text string) (object, error) {
	value := object{}
	err := json.Unmarshal([]byte(text), &value)
	return value, err
}

func readFiles(chart string) (files, files) {
	templates, others := files{}, files{}
	var walk func(string)
	walk = func(folder string) {
		entries, err := os.ReadDir(filepath.Join(chart, folder))
		must(err)
		for _, entry := range entries {
			name := path.Join(folder, entry.Name())
			info, err := os.Stat(filepath.Join(chart, name)) // of what a link leads to
			must(err)
			if info.IsDir() {
				walk(name)
				continue
			}
			data, err := os.ReadFile(filepath.Join(chart, name))
			must(err)
			if strings.HasPrefix(name, "templates/") {
				templates[name] = data
			} else {
				others[name] = data
			}
		}
	}
	walk("")
	return templates, others
}

func parse(templates files) *template.Template {
	root := template.New("chart").Option("missingkey=error")
	functions := sprig.TxtFuncMap()
	functions["toYaml"] = toYaml
	functions["fromJson"] = fromJson
	functions["include"] = func(name string, data interface{}) (string, error) {
		var text bytes.Buffer
		err := root.ExecuteTemplate(&text, name, data)
		return text.String(), err
	}
	root.Funcs(functions)
	for name, data := range templates {
		_, err := root.New(name).Parse(string(data))
		must(err)
	}
	return root
}

type document struct {
	source, text string
	order        int
}

// The order in which helm installs kinds.
var kinds = []string{"NetworkPolicy", "PodDisruptionBudget", "ConfigMap", "Service", "Deployment", "StatefulSet"}

func orderOf(kind string) int {
	for i, one := range kinds {
		if kind == one {
			return i
		}
	}
	return len(kinds)
}

// split cuts a rendered template into its documents; empty ones go.
func split(source, text string) []document {
	var found []document
	for _, part := range strings.Split("\n"+text, "\n---") {
		part = strings.TrimSpace(part)
		var head struct{ Kind string }
		must(yaml.Unmarshal([]byte(part), &head))
		if head.Kind != "" {
			found = append(found, document{source, part, orderOf(head.Kind)})
		}
	}
	return found
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: template RELEASE CHART NAMESPACE PROFILE.yaml")
		os.Exit(2)
	}
	chart := os.Args[2]
	about := readYaml(filepath.Join(chart, "Chart.yaml"))
	data := object{
		"Values":  merge(readYaml(filepath.Join(chart, "values.yaml")), readYaml(os.Args[4])),
		"Release": object{"Name": os.Args[1], "Namespace": os.Args[3], "Service": "Helm"},
		"Chart":   object{"Name": about["name"], "Version": about["version"], "AppVersion": about["appVersion"]},
	}
	templates, others := readFiles(chart)
	data["Files"] = others
	root := parse(templates)
	var documents []document
	var names []string
	for name := range templates {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		base := path.Base(name)
		if strings.HasPrefix(base, "_") || !strings.HasSuffix(base, ".yaml") {
			continue
		}
		var text bytes.Buffer
		must(root.ExecuteTemplate(&text, name, data))
		documents = append(documents, split(path.Join(fmt.Sprint(about["name"]), name), text.String())...)
	}
	sort.SliceStable(documents, func(i, j int) bool { return documents[i].order < documents[j].order })
	for _, one := range documents {
		fmt.Printf("---\n# Source: %s\n%s\n", one.source, one.text)
	}
}
