package frost

import (
	"bytes"
	"errors"
	"testing"
)

func types() []Type {
	return []Type{
		TypeNonces, TypeAnswers, TypePartialSigs,
		TypeKeygen1, TypeKeygenSums, TypeKeygen2, TypeKeygenCert, TypeKeygenAck, TypeKeygenInquiry,
		TypeRefresh1, TypeRefreshSums, TypeRefresh2, TypeRefreshCert, TypeRefreshAck, TypeRefreshSealed, TypeRefreshHealing2, TypeRefreshHealCert,
	}
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	shape := Shape{T: 3, N: 5, U: 43}
	for _, typ := range types() {
		n, err := typ.BodyLen(shape)
		if err != nil {
			t.Fatal(err)
		}
		e := Envelope{Type: typ, Session: SessionID{1, 31: 2}, Epoch: 7, Body: bytes.Repeat([]byte{byte(typ)}, n)}
		b := e.Encode()
		got, err := ParseEnvelope(b, typ, shape)
		if err != nil || got.Session != e.Session || got.Epoch != 7 || !bytes.Equal(got.Body, e.Body) {
			t.Errorf("type %d: %v", typ, err)
		}
		for _, bad := range [][]byte{nil, b[:1], b[:37], b[:len(b)-1], append(bytes.Clone(b), 0)} {
			if _, err := ParseEnvelope(bad, typ, shape); !errors.Is(err, ErrEncoding) {
				t.Errorf("type %d, %d bytes: %v", typ, len(bad), err)
			}
		}
		other := bytes.Clone(b)
		other[1] = 99
		if _, err := ParseEnvelope(other, typ, shape); !errors.Is(err, ErrEncoding) {
			t.Errorf("another type than %d: %v", typ, err)
		}
		other[0] = 0
		if _, err := ParseEnvelope(other, typ, shape); !errors.Is(err, ErrVersion) {
			t.Errorf("version 0: %v", err)
		}
	}
}

func TestBodyLenRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ   Type
		shape Shape
	}{
		{0, Shape{2, 2, 1}}, {4, Shape{2, 2, 1}}, {22, Shape{2, 2, 1}}, {99, Shape{2, 2, 1}},
		{TypeNonces, Shape{2, 2, 0}}, {TypeNonces, Shape{2, 2, MaxMessages + 1}}, {TypeAnswers, Shape{2, 2, -1}},
		{TypeKeygen1, Shape{0, 2, 0}}, {TypeKeygen1, Shape{3, 2, 0}}, {TypeKeygen1, Shape{2, MaxParticipants + 1, 0}},
		{TypeRefresh1, Shape{1, 2, 0}}, {TypeRefreshSums, Shape{1, 1, 0}},
	} {
		if _, err := c.typ.BodyLen(c.shape); !errors.Is(err, ErrEncoding) {
			t.Errorf("type %d, %+v: %v", c.typ, c.shape, err)
		}
	}
}
