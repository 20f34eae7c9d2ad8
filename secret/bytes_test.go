package secret_test

import (
	"bytes"
	"encoding"
	"encoding/base32"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"text/template"
	"unsafe"

	"github.com/vigil-ark/vigil/secret"
)

var raw = []byte("\xa7\x31\xc4\x0eThe quick brown secret\xff\x80\x01\x02")

func sample() secret.Bytes { return secret.New(bytes.Clone(raw)) }

// forms are the secret as printers and encoders would show it.
func forms(b []byte) []string {
	decimal := strings.Trim(fmt.Sprint(b[:6]), "[]")
	return []string{
		string(b), string(b[4:26]), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
		base64.StdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b), base32.StdEncoding.EncodeToString(b),
		decimal, strings.ReplaceAll(decimal, " ", ","), strings.ReplaceAll(decimal, " ", ", "),
		"0xa7, 0x31, 0xc4", "a7 31 c4", `\xa7\x31\xc4`, `\xa7`,
	}
}

type inner struct {
	b    secret.Bytes
	list []secret.Bytes
	m    map[string]secret.Bytes
	p    *secret.Bytes
	any  any
}

type outer struct {
	Name  string
	in    inner
	deep  *outer
	iface any
}

// holders are values with a secret in them, by themselves and nested in
// exported and unexported fields.
func holders() map[string]any {
	b := sample()
	in := inner{b: b, list: []secret.Bytes{b}, m: map[string]secret.Bytes{"k": b}, p: &b, any: b}
	out := outer{Name: "n", in: in, iface: in}
	out.deep = &outer{in: in, iface: &b}
	return map[string]any{
		"value": b, "pointer": &b, "slice": []secret.Bytes{b}, "map": map[string]secret.Bytes{"k": b}, "array": [1]secret.Bytes{b},
		"inner": in, "&inner": &in, "outer": out, "&outer": &out,
		"exported": struct{ B secret.Bytes }{b}, "error": fmt.Errorf("bad %v: %w", b, errors.New("x")),
	}
}

func search(t *testing.T, what, text string) {
	t.Helper()
	for _, form := range forms(raw) {
		if strings.Contains(text, form) {
			t.Errorf("%s shows the secret as %q", what, form)
		}
	}
}

// TestSearchFinds proves the search: without the type everything leaks.
func TestSearchFinds(t *testing.T) {
	naked := struct{ b []byte }{raw}
	js, _ := json.Marshal(raw)
	for _, text := range []string{fmt.Sprintf("%v", naked), fmt.Sprintf("%x", naked), fmt.Sprintf("%X", naked), fmt.Sprintf("%s", naked), fmt.Sprintf("%q", naked), fmt.Sprintf("%#v", naked), string(js), walk(naked)} {
		found := false
		for _, form := range forms(raw) {
			found = found || strings.Contains(text, form)
		}
		if !found {
			t.Errorf("nothing found in %q", text)
		}
	}
}

func TestFmtShowsNothing(t *testing.T) {
	for name, v := range holders() {
		for _, verb := range []string{"v", "+v", "#v", "s", "q", "+q", "#q", "x", "X", "# x", "d", "b", "o", "c", "U", "e", "t", "T", "p", "z"} {
			search(t, name+" %"+verb, fmt.Sprintf("%"+verb, v))
		}
		search(t, name+" Sprint", fmt.Sprint(v)+fmt.Sprintln(v))
	}
	if got := fmt.Sprintf("%v %s %#v", sample(), sample(), sample()); got != "secret secret secret" {
		t.Errorf("printed as %q", got)
	}
}

func TestSlogShowsNothing(t *testing.T) {
	for name, v := range holders() {
		var out bytes.Buffer
		level := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, level), slog.NewJSONHandler(&out, level)} {
			log := slog.New(h)
			log.Debug("m", "v", v, "group", slog.GroupValue(slog.Any("v", v)))
			log.With("v", v).WithGroup("g").Error("m", slog.Any("err", fmt.Errorf("%v", v)))
		}
		if out.Len() == 0 {
			t.Fatal("nothing was logged")
		}
		search(t, name, out.String())
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", sample())
	if !strings.Contains(out.String(), "v=secret") {
		t.Errorf("logged as %q", out.String())
	}
}

func TestEncodersRefuse(t *testing.T) {
	b := sample()
	for _, v := range []any{b, &b, []secret.Bytes{b}, map[string]secret.Bytes{"k": b}, struct{ B secret.Bytes }{b}, struct{ B *secret.Bytes }{&b}} {
		if js, err := json.Marshal(v); !errors.Is(err, secret.ErrMarshal) {
			t.Errorf("%T to JSON: %s, %v", v, js, err)
		}
		if err := gob.NewEncoder(&bytes.Buffer{}).Encode(v); !errors.Is(err, secret.ErrMarshal) {
			t.Errorf("%T to gob: %v", v, err)
		}
	}
	type element struct{ B secret.Bytes }
	if _, err := xml.Marshal(element{b}); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("to XML: %v", err)
	}
	if _, err := encoding.TextMarshaler(b).MarshalText(); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("to text: %v", err)
	}
	// Encoders skip unexported fields; then there is nothing to refuse.
	for name, v := range holders() {
		js, _ := json.Marshal(v)
		search(t, name+" JSON", string(js))
		var g bytes.Buffer
		_ = gob.NewEncoder(&g).Encode(v)
		search(t, name+" gob", g.String())
		x, _ := xml.Marshal(v)
		search(t, name+" XML", string(x))
	}
	// A map key would be marshalled as text; the type is not even comparable.
	if reflect.TypeFor[secret.Bytes]().Comparable() {
		t.Error("secret.Bytes is comparable")
	}
}

func TestTemplateShowsNothing(t *testing.T) {
	for name, v := range holders() {
		var out bytes.Buffer
		if err := template.Must(template.New("t").Parse(`{{.}} {{printf "%#v" .}}`)).Execute(&out, v); err != nil {
			t.Fatal(err)
		}
		search(t, name, out.String())
	}
}

// walk dumps v as go-spew does: through unexported fields, pointers and
// interfaces, past every String method.
func walk(v any) string {
	var out strings.Builder
	seen := map[uintptr]bool{}
	var visit func(reflect.Value)
	visit = func(v reflect.Value) {
		if v.CanAddr() && !v.CanInterface() { // open unexported fields
			v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
		}
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if v.IsNil() || (v.Kind() == reflect.Pointer && seen[v.Pointer()]) {
				return
			}
			if v.Kind() == reflect.Pointer {
				seen[v.Pointer()] = true
			}
			visit(v.Elem())
		case reflect.Struct:
			c := reflect.New(v.Type()).Elem() // an addressable copy
			c.Set(v)
			for i := range c.NumField() {
				visit(c.Field(i))
			}
		case reflect.Slice, reflect.Array:
			if v.Type().Elem().Kind() == reflect.Uint8 {
				b := make([]byte, v.Len())
				reflect.Copy(reflect.ValueOf(b), v)
				fmt.Fprintf(&out, "%x %q\n", b, b)
				return
			}
			for i := range v.Len() {
				visit(v.Index(i))
			}
		case reflect.Map:
			for _, k := range v.MapKeys() {
				visit(k)
				c := reflect.New(v.Type().Elem()).Elem()
				c.Set(v.MapIndex(k))
				visit(c)
			}
		case reflect.Func:
			fmt.Fprintf(&out, "%s %#x\n", v.Type(), v.Pointer())
		default:
			fmt.Fprintln(&out, v)
		}
	}
	c := reflect.New(reflect.TypeOf(v)).Elem()
	c.Set(reflect.ValueOf(v))
	visit(c)
	return out.String()
}

func TestReflectionShowsNothing(t *testing.T) {
	for name, v := range holders() {
		text := walk(v)
		search(t, name, text)
		if !strings.Contains(text, "func(") && name != "error" {
			t.Errorf("%s: the walk did not come to the secret: %q", name, text)
		}
	}
}

func TestNewTakesTheSecret(t *testing.T) {
	b := bytes.Clone(raw)
	s := secret.New(b)
	if !bytes.Equal(b, make([]byte, len(raw))) {
		t.Error("New left the caller's bytes")
	}
	if err := s.Use(func(got []byte) error {
		if !bytes.Equal(got, raw) {
			t.Error("another secret")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	if err := s.Use(func([]byte) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("Use: %v", err)
	}
}

func TestBurn(t *testing.T) {
	s := sample()
	copied := s
	var kept []byte // against the rules, to see the wiping
	_ = s.Use(func(b []byte) error { kept = b; return nil })
	s.Burn()
	s.Burn()
	if !bytes.Equal(kept, make([]byte, len(raw))) {
		t.Error("Burn did not wipe")
	}
	unused := func([]byte) error { t.Error("a burned secret was used"); return nil }
	for _, b := range []secret.Bytes{s, copied, {}} {
		if err := b.Use(unused); !errors.Is(err, secret.ErrBurned) {
			t.Errorf("Use after Burn: %v", err)
		}
		b.Burn()
	}
}

// TestBurnWaits: a running Use keeps the secret to its end.
func TestBurnWaits(t *testing.T) {
	s := sample()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			err := s.Use(func(b []byte) error {
				for range 100 {
					if !bytes.Equal(b, raw) {
						return errors.New("wiped under a running Use")
					}
				}
				return nil
			})
			if err != nil && !errors.Is(err, secret.ErrBurned) {
				t.Error(err)
			}
		})
	}
	wg.Go(s.Burn)
	wg.Wait()
	if err := s.Use(func([]byte) error { return nil }); !errors.Is(err, secret.ErrBurned) {
		t.Error(err)
	}
}

func TestDo(t *testing.T) {
	ran := false
	secret.Do(func() { ran = true })
	if !ran {
		t.Error("Do did not call")
	}
}

// The port's errors stay apart: a missing secret quarantines what needs it.
func TestErrorsDiffer(t *testing.T) {
	all := []error{secret.ErrBurned, secret.ErrMarshal, secret.ErrNotFound, secret.ErrUnavailable, secret.ErrTampered}
	for i, a := range all {
		for j, b := range all {
			if errors.Is(a, b) != (i == j) {
				t.Errorf("%v is %v", a, b)
			}
		}
	}
}
