package milenage

import (
	"encoding/hex"
	"errors"
	"testing"
	"testing/quick"
)

func bytesOf(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Test sets 1 and 3 to 6 of 3GPP TS 35.208 (set 2 repeats the inputs of set 1).
func TestSetsOfTS35208(t *testing.T) {
	for _, s := range []struct{ name, k, rand, sqn, amf, op, opc, f1, f1s, f2, f5, f3, f4, f5s string }{
		{"1", "465b5ce8b199b49faa5f0a2ee238a6bc", "23553cbe9637a89d218ae64dae47bf35", "ff9bb4d0b607", "b9b9",
			"cdc202d5123e20f62b6d676ac72cb318", "cd63cb71954a9f4e48a5994e37a02baf", "4a9ffac354dfafb3", "01cfaf9ec4e871e9", "a54211d5e3ba50bf", "aa689c648370",
			"b40ba9a3c58b2a05bbf0d987b21bf8cb", "f769bcd751044604127672711c6d3441", "451e8beca43b"},
		{"3", "fec86ba6eb707ed08905757b1bb44b8f", "9f7c8d021accf4db213ccff0c7f71a6a", "9d0277595ffc", "725c",
			"dbc59adcb6f9a0ef735477b7fadf8374", "1006020f0a478bf6b699f15c062e42b3", "9cabc3e99baf7281", "95814ba2b3044324", "8011c48c0c214ed2", "33484dc2136b",
			"5dbdbb2954e8f3cde665b046179a5098", "59a92d3b476a0443487055cf88b2307b", "deacdd848cc6"},
		{"4", "9e5944aea94b81165c82fbf9f32db751", "ce83dbc54ac0274a157c17f80d017bd6", "0b604a81eca8", "9e09",
			"223014c5806694c007ca1eeef57f004f", "a64a507ae1a2a98bb88eb4210135dc87", "74a58220cba84c49", "ac2cc74a96871837", "f365cd683cd92e96", "f0b9c08ad02e",
			"e203edb3971574f5a94b0d61b816345d", "0c4524adeac041c4dd830d20854fc46b", "6085a86c6f63"},
		{"5", "4ab1deb05ca6ceb051fc98e77d026a84", "74b0cd6031a1c8339b2b6ce2b8c4a186", "e880a1b580b6", "9f07",
			"2d16c5cd1fdf6b22383584e3bef2a8d8", "dcf07cbd51855290b92a07a9891e523e", "49e785dd12626ef2", "9e85790336bb3fa2", "5860fc1bce351e7e", "31e11a609118",
			"7657766b373d1c2138f307e3de9242f9", "1c42e960d89b8fa99f2744e0708ccb53", "fe2555e54aa9"},
		{"6", "6c38a116ac280c454f59332ee35c8c4f", "ee6466bc96202c5a557abbeff8babf63", "414b98222181", "4464",
			"1ba00a1a7c6700ac8c3ff3e96ad08725", "3803ef5363b947c6aaa225e58fae3934", "078adfb488241a57", "80246b8d0186bcf1", "16c8233f05a0ac28", "45b0f69ab06c",
			"3f8c7587fe8e4b233af676aede30ba3b", "a7466cc1e6b2a1337d49d3b66e95d7b4", "1f53cd2b1113"},
	} {
		t.Run(s.name, func(t *testing.T) {
			check := func(name string, got []byte, want string) {
				t.Helper()
				if hex.EncodeToString(got) != want {
					t.Errorf("%s = %x, want %s", name, got, want)
				}
			}
			k := bytesOf(t, s.k)
			opc, err := OPc(k, bytesOf(t, s.op))
			if err != nil {
				t.Fatal(err)
			}
			check("OPc", opc, s.opc)
			c, err := New(k, opc)
			if err != nil {
				t.Fatal(err)
			}
			rand, amf := [16]byte(bytesOf(t, s.rand)), [2]byte(bytesOf(t, s.amf))
			sqn := number([6]byte(bytesOf(t, s.sqn)))
			macA, macS := c.F1(rand, sqn, amf)
			res, ck, ik, ak, aks := c.F2(rand), c.F3(rand), c.F4(rand), c.F5(rand), c.F5Star(rand)
			check("f1", macA[:], s.f1)
			check("f1*", macS[:], s.f1s)
			check("f2", res[:], s.f2)
			check("f3", ck[:], s.f3)
			check("f4", ik[:], s.f4)
			check("f5", ak[:], s.f5)
			check("f5*", aks[:], s.f5s)
			v := c.Vector(rand, sqn, amf)
			hidden := conceal([6]byte(v.AUTN[:6]), ak)
			check("SQN of AUTN", hidden[:], s.sqn)
			check("AMF of AUTN", v.AUTN[6:8], s.amf)
			check("MAC of AUTN", v.AUTN[8:], s.f1)
			if v.XRES != res || v.CK != ck || v.IK != ik || v.RAND != rand {
				t.Errorf("the vector %x is not of f2, f3 and f4", v)
			}
		})
	}
}

// What a card says in AUTS is read again, and nobody without its key can say it.
func TestResynchronise(t *testing.T) {
	check := func(k, other, opc, rand [16]byte, sqn uint64, at uint8) bool {
		sqn &= MaxSQN
		c, err := New(k[:], opc[:])
		if err != nil {
			return false
		}
		auts := c.AUTS(rand, sqn)
		if got, err := c.Resynchronise(rand, auts); err != nil || got != sqn {
			return false
		}
		foreign, err := New(other[:], opc[:])
		if err != nil {
			return false
		}
		if _, err := foreign.Resynchronise(rand, auts); k != other && !errors.Is(err, ErrMAC) {
			return false
		}
		auts[int(at)%AUTSSize] ^= 1
		_, err = c.Resynchronise(rand, auts)
		return errors.Is(err, ErrMAC)
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
}

func TestSizes(t *testing.T) {
	if _, err := New(make([]byte, 15), make([]byte, 16)); err == nil {
		t.Error("a short key is taken")
	}
	if _, err := OPc(make([]byte, 16), make([]byte, 17)); err == nil {
		t.Error("a long OP is taken")
	}
}
